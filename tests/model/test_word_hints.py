"""Words that the audio side hears, spelt out for the language model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from naturelm.answer.engine import NatureLM
from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.model.loading import load_model
from tiny import noise, require_padding_unheard, tiny_naturelm, tiny_projector_config, tiny_tokenizer

WORDS = ("high", "dog", "low", "song", "cat")
OF_TASK = {"name": np.array([1, 1, 1, 0, 1], bool), "call": np.array([0, 0, 0, 1, 1], bool)}
PLACES = {"name": np.array([0, 1, 0, 0, 1.0]), "call": np.zeros(5)}
HINTS = (
    {"task": "name", "words": 3, "tokens": 4},
    {"task": "call", "words": 1, "tokens": 2, "title": "call type:"},
)
TITLE = tuple(tiny_tokenizer()(" call type:")["input_ids"])
TOKENS = 3 * 4 + len(TITLE) + 1 * 2


def hinting(**changes: Any) -> NatureLM:
    naturelm = tiny_naturelm(projector_config=tiny_projector_config(word_hints=HINTS, **changes))
    naturelm.model.word_hints.learn(WORDS, OF_TASK, PLACES, naturelm.processor.tokenizer)
    with torch.no_grad():
        naturelm.model.word_hints.reader.weight.normal_(generator=torch.Generator().manual_seed(1))
    return naturelm


def test_likeliest_words_follow_the_windows_in_the_order_of_answers() -> None:
    naturelm = hinting()
    model = naturelm.model
    time = np.arange(16_000) / 16_000
    tones = [0.3 * np.sin(2 * np.pi * pitch * time).astype(np.float32) for pitch in (200, 900, 4000)]
    clips = [noise(0.3, 0), noise(2.2, 1), *tones]
    means = []
    for clip in clips:
        heard = model.ear(torch.from_numpy(clip)[None])
        summaries, real = model.projector.summarise(heard.last_hidden_state, heard.frame_mask)
        means.append(summaries[real].mean(0))
    reader = model.word_hints.reader
    with torch.no_grad():  # what random weights hear alike in all clips would decide every one of them
        reader.weight.mul_(20)
        reader.bias.copy_(-reader.weight @ torch.stack(means).mean(0))
    batch = naturelm.processor.feature_extractor(clips)
    rows = model.get_audio_features(batch["input_values"], batch["input_features_mask"])
    seen = set()
    for clip, row, mean in zip(clips, rows, means, strict=True):
        assert len(row) == model.config.num_audio_tokens(len(clip))
        logits = reader(mean).detach().numpy()
        spelt = row[-TOKENS:]
        for hint, confidence in zip(HINTS, model.word_hints.confidence, strict=True):
            if "title" in hint:
                title = model.get_input_embeddings()(torch.tensor(TITLE))
                assert torch.equal(spelt[: len(TITLE)], title)
                spelt = spelt[len(TITLE) :]
            among = np.flatnonzero(OF_TASK[hint["task"]])
            chances = dict(zip(among.tolist(), np.exp(logits[among]), strict=True))
            whole = sum(chances.values())
            sharing = min(hint["words"], whole**2 / sum(chance**2 for chance in chances.values()))
            best = sorted(among.tolist(), key=lambda word: -chances[word])[: hint["words"]]
            places = PLACES[hint["task"]]
            assert model.config.projector_config.hinted_words == WORDS
            for word in sorted(best, key=lambda word: (places[word], best.index(word))):
                ids = naturelm.processor.tokenizer(f" {WORDS[word]}", add_special_tokens=False)["input_ids"]
                ids = ids[: hint["tokens"]]
                embeddings = model.get_input_embeddings()(torch.tensor(ids))
                sure = min(1.0, chances[word] / whole * sharing)
                assert torch.allclose(spelt[: len(ids)] - sure * confidence, embeddings, atol=1e-4)
                spelt = spelt[hint["tokens"] :]
                seen.add((hint["task"], word))
        assert len(spelt) == 0
    assert len(seen) > 4  # the clips are not heard alike


def test_there_are_none_before_the_words_are_known() -> None:
    naturelm = tiny_naturelm(projector_config=tiny_projector_config(word_hints=HINTS))
    batch = naturelm.processor.feature_extractor([noise(1, 0)])
    (row,) = naturelm.model.get_audio_features(batch["input_values"], batch["input_features_mask"])
    bare = tiny_naturelm().model.config.num_audio_tokens(16_000)
    assert len(row) == bare == naturelm.model.config.num_audio_tokens(16_000)


def test_padding_in_a_batch_changes_no_hint() -> None:
    require_padding_unheard(hinting())


def test_they_come_back_with_the_checkpoint(tmp_path: Path) -> None:
    naturelm = hinting()
    naturelm.model.save_pretrained(tmp_path / "model")
    naturelm.processor.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config.projector_config.hinted_words == WORDS
    assert loaded.config.projector_config.hint_titles == ((), TITLE)
    batch = naturelm.processor.feature_extractor([noise(1, 0)])
    inputs = batch["input_values"], batch["input_features_mask"]
    (ours,), (theirs,) = naturelm.model.get_audio_features(*inputs), loaded.get_audio_features(*inputs)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"word_hints": [{"task": "name", "words": 3}]}, "task, words and tokens each"),
        (
            {"word_hints": [{"task": "name", "words": 3, "tokens": 1, "head": "a"}]},
            "task, words and tokens each",
        ),
        (
            {"word_hints": HINTS, "hinted_words": WORDS, "hint_titles": [[1]]},
            "each of its 2 word_hints, not 1",
        ),
        ({"word_hints": [{"task": "name", "words": 0, "tokens": 1}]}, "whole numbers from 1"),
        ({"word_hints": [{"task": "name", "words": 1.5, "tokens": 1}]}, "whole numbers from 1"),
        ({"word_hints": [*HINTS, HINTS[0]]}, "a task twice"),
        (
            {"word_hints": HINTS, "hinted_words": ["dog", "cat"], "hint_titles": [[], [1]]},
            "want 3 words of its 2",
        ),
        ({"hinted_words": ["dog", "cat"]}, "want 0 words of its 2"),
    ],
)
def test_hints_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NatureLMProjectorConfig(**fields)
