"""Labels of an ear, spelt out for the language model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelled_ear import LABELS, SIZE, LabelledEar, LabelledEarConfig
from naturelm.answer.engine import NatureLM
from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.model.label_hints import TaughtLabels
from naturelm.model.loading import load_model
from naturelm.model.modeling import NatureLMForConditionalGeneration
from tiny import noise, require_padding_unheard, tiny_config, tiny_naturelm, tiny_tokenizer

HINTS, LENGTH = 2, 6
PROJECTOR: dict[str, Any] = {
    "kind": "mean",
    "window_frames": 1,
    "stride_frames": 1,
    "honour_mask": True,
    "label_hints": HINTS,
    "label_hint_tokens": LENGTH,
}


def hinting(**changes: Any) -> NatureLM:
    naturelm = tiny_naturelm(
        audio_config=LabelledEarConfig(),
        projector_config=NatureLMProjectorConfig(**{**PROJECTOR, **changes}),
    )
    hints = naturelm.model.hints
    if hints is not None:
        hints.spell(naturelm.model.ear.label_names(), naturelm.processor.tokenizer)
        with torch.no_grad():
            hints.confidence.normal_(generator=torch.Generator().manual_seed(1))
    return naturelm


def test_likeliest_labels_follow_the_windows_spelt_in_the_models_own_tokens() -> None:
    naturelm = hinting()
    model = naturelm.model
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.3, 2.2))]
    batch = naturelm.processor.feature_extractor(clips)
    rows = model.get_audio_features(batch["input_values"], batch["input_features_mask"])
    ear = model.ear
    assert isinstance(ear, LabelledEar)
    _, weight, bias = ear.class_directions()
    for clip, row in zip(clips, rows, strict=True):
        frames = ear.hear(clip)
        assert len(row) == len(frames) + HINTS * LENGTH == model.config.num_audio_tokens(len(clip))
        scores = (frames @ weight.T + bias).max(0)
        for place, label in enumerate(np.argsort(-scores)[:HINTS]):
            ids = naturelm.processor.tokenizer(f" bird {label}", add_special_tokens=False)["input_ids"]
            spelt = model.get_input_embeddings()(torch.tensor(ids[:LENGTH]))
            sure = 1 / (1 + np.exp(-scores[label]))
            start = len(frames) + place * LENGTH
            found = row[start : start + len(spelt)] - sure * model.hints.confidence
            assert torch.allclose(found, spelt, atol=1e-5)


def test_padding_in_a_batch_changes_no_hint() -> None:
    require_padding_unheard(hinting())


def test_gradient_reaches_how_sure_the_ear_is() -> None:
    naturelm = hinting()
    batch = naturelm.processor(["What is it?"], [noise(1, 0)], answers=["bird"])
    naturelm.model.train()(**batch).loss.backward()
    assert naturelm.model.hints.confidence.grad.abs().max() > 0


def test_spellings_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    naturelm = hinting()
    naturelm.model.save_pretrained(tmp_path / "model")
    naturelm.processor.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.hints.spellings.dtype == torch.int32
    assert torch.equal(loaded.hints.spellings, naturelm.model.hints.spellings)
    assert torch.equal(loaded.hints.confidence, naturelm.model.hints.confidence)


def test_long_names_are_cut_and_short_ones_filled() -> None:
    naturelm = hinting(label_hint_tokens=3)
    tokenizer = tiny_tokenizer()
    naturelm.model.hints.spell(["a", *["abcdefghij"] * (LABELS - 1)], tokenizer)
    ids = tokenizer(" abcdefghij", add_special_tokens=False)["input_ids"]
    fill = tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    assert naturelm.model.hints.spellings[1].tolist() == ids[:3]
    assert naturelm.model.hints.spellings[0, -1] == fill


def test_an_ear_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="label_hints: an ear of type naturelm_beats has no labels"):
        tiny_config(projector_config=NatureLMProjectorConfig(label_hints=1))


def test_without_hints_nothing_is_added() -> None:
    model = hinting(label_hints=0).model
    assert isinstance(model, NatureLMForConditionalGeneration) and model.hints is None
    assert model.config.num_audio_tokens(8000) == 1


def taught(seed: int = 3) -> TaughtLabels:
    rng = np.random.default_rng(seed)
    return TaughtLabels(
        ("dog", "cat", "owl"),
        rng.normal(0, 0.3, (4, SIZE)).astype(np.float32),
        rng.normal(0, 1, 4).astype(np.float32),
    )


def test_taught_labels_follow_the_ears_own_once_they_are_taught() -> None:
    naturelm = hinting(taught_hints=2, taught_hint_tokens=4, frame_dropout=0.5)
    model, clip = naturelm.model, noise(2.2, 1)
    batch = naturelm.processor.feature_extractor([clip])

    def heard() -> torch.Tensor:
        row = model.get_audio_features(batch["input_values"], batch["input_features_mask"])[0]
        assert len(row) == model.config.num_audio_tokens(len(clip))
        return row

    before, labels = heard(), taught()
    model.hints.teach(labels, naturelm.processor.tokenizer)
    after = heard()
    assert torch.equal(after[: len(before)], before) and len(after) == len(before) + 2 * 4
    logits = labels.weight @ model.ear.hear(clip).mean(0) + labels.bias
    sure = np.exp(logits) / np.exp(logits).sum()
    for place, label in enumerate(np.argsort(-sure[:3])[:2]):
        ids = naturelm.processor.tokenizer(f" {labels.names[label]}", add_special_tokens=False)["input_ids"][
            :4
        ]
        spelt = model.get_input_embeddings()(torch.tensor(ids))
        start = len(before) + place * 4
        found = after[start : start + len(spelt)] - sure[label] * model.hints.taught_confidence
        assert torch.allclose(found, spelt, atol=1e-5)


def test_taught_labels_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    naturelm = hinting(taught_hints=2)
    naturelm.model.hints.teach(taught(), naturelm.processor.tokenizer)
    naturelm.model.save_pretrained(tmp_path / "model")
    naturelm.processor.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config.projector_config.taught_labels == ("dog", "cat", "owl")
    for name in ("taught_spellings", "taught_weight", "taught_bias", "taught_confidence"):
        assert torch.equal(getattr(loaded.hints, name), getattr(naturelm.model.hints, name))


def test_training_is_less_sure_of_what_was_taught() -> None:
    naturelm = hinting(taught_hints=1, frame_dropout=0.9)
    naturelm.model.hints.teach(taught(), naturelm.processor.tokenizer)
    batch = naturelm.processor.feature_extractor([noise(1, 0)])
    naturelm.model.train()
    torch.manual_seed(0)
    rows = [naturelm.model.get_audio_features(batch["input_values"])[0][-LENGTH:] for _ in range(2)]
    assert not torch.equal(*rows)


@pytest.mark.parametrize(
    "wrong", [{"taught_hints": 2, "taught_labels": ("dog",)}, {"taught_hints": 1, "label_hints": 0}]
)
def test_taught_hints_that_cannot_be_given_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="taught_hints"):
        NatureLMProjectorConfig(**{**PROJECTOR, **wrong})
