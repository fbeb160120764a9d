"""In float64, where rounding is out of the way, the trie's scores are those of scoring label by label."""

import pytest
import torch

from naturelm import Query
from tiny import noise, tiny_naturelm

LABELS = ("Dog", "Dog Rose", "Lazuli Bunting", "Lazuli", "Cat")


def test_scores_equal_label_by_label_to_the_last_digits() -> None:
    naturelm = tiny_naturelm()
    naturelm.model = naturelm.model.double()
    clip = naturelm.read_clip(noise(1.3))
    answer = naturelm.answer([Query((clip,), "Which animal is this?", LABELS)])[0]
    for choice in answer.choices:
        batch = naturelm.processor("Which animal is this?", [clip.samples], answers=[choice.label])
        labels = batch.pop("labels")[0]
        with torch.no_grad():
            log_probs = naturelm.model(**batch).logits[0].log_softmax(-1)
        places = (labels != -100).nonzero().flatten()
        alone = log_probs[places - 1, labels[places]].sum()
        # The filter bank stays in float32, but it is the same on both sides.
        assert choice.log_likelihood == pytest.approx(float(alone), abs=1e-10)
