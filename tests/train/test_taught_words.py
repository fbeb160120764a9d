"""Words that a warm-up teaches, spelt out for the language model in the phase of answers."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import write_corpus
from training import WARM_UP, kind_pair, losses, tiny_options

from naturelm.corpus.storage import Corpus
from naturelm.model.loading import load_model
from naturelm.train.checkpoints import newest_checkpoint
from naturelm.train.options import TrainError, TrainOptions, WarmUpOptions
from naturelm.train.run import train
from naturelm.train.warm_up import word_targets

HINTS = [{"task": "species-common", "words": 2, "tokens": 3}, {"task": "caption", "words": 3, "tokens": 2}]


def hinting(root: Path, hints: Any = HINTS, **changes: Any) -> TrainOptions:
    options = tiny_options(root, **{"warm_up": WARM_UP, **changes})
    projector = {**options.model.projector, "word_hints": hints}
    optimizer = replace(options.optimizer, ear_scale=0.0, projector_scale=0.0)
    return replace(options, model=replace(options.model, projector=projector), optimizer=optimizer)


def test_where_words_stand_is_counted_from_the_last_comma(tmp_path: Path) -> None:
    several = [kind_pair(number, task="species-several", output="red Dog, Cat") for number in range(48, 52)]
    corpus = write_corpus(tmp_path / "corpus", [*map(kind_pair, range(48)), *several])
    targets = word_targets([Corpus(corpus)], WarmUpOptions(steps=1, min_count=2))
    listed = dict(zip(targets.words, targets.places["species-several"], strict=True))
    assert listed["red"] == 0 and listed["Dog"] == 1 and listed["Cat"] == 0
    places = dict(zip(targets.words, targets.places["caption"], strict=True))
    assert places["A"] == 0 and places["dog"] == 1 and places["calls"] == 2
    assert dict(zip(targets.words, targets.places["species-common"], strict=True))["Dog"] == 0


def test_the_warm_up_teaches_the_reader_and_answers_leave_it(tmp_path: Path) -> None:
    options = hinting(tmp_path, save_every=3)
    assert train(options, tmp_path / "run").state == "finished"
    model = load_model(tmp_path / "run" / "model")
    assert {"Dog", "Cat", "dog", "calls"} < set(model.config.projector_config.hinted_words)
    assert train(replace(options, steps=3), tmp_path / "part").state == "finished"
    earlier = load_model(tmp_path / "part" / "model")
    assert model.word_hints.reader.weight.abs().max() > 0  # the warm-up begins it at 0
    for part in ("ear", "projector", "word_hints.reader"):
        now, before = (dict(each.get_submodule(part).named_parameters()) for each in (model, earlier))
        assert now and all(torch.equal(now[name], before[name]) for name in now)
    assert not torch.equal(model.word_hints.confidence, earlier.word_hints.confidence)


def test_a_following_run_goes_on_with_the_words_of_the_first(tmp_path: Path) -> None:
    options = hinting(tmp_path)
    assert train(options, tmp_path / "first").state == "finished"
    start = replace(options.model, start=str(tmp_path / "first"))
    assert train(replace(options, model=start, warm_up=None), tmp_path / "next").state == "finished"
    first, following = (load_model(tmp_path / name / "model") for name in ("first", "next"))
    assert torch.equal(first.word_hints.reader.weight, following.word_hints.reader.weight)
    assert torch.equal(first.word_hints.spellings, following.word_hints.spellings)
    assert not torch.equal(first.word_hints.confidence, following.word_hints.confidence)


def test_a_run_that_is_resumed_in_its_warm_up_has_the_losses_of_one_that_was_not(tmp_path: Path) -> None:
    options = hinting(tmp_path, save_every=3, keep=9)
    assert train(options, tmp_path / "run").state == "finished"
    whole = losses(tmp_path / "run", "warm-up"), losses(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        if folder.name != "warm-up-000003":
            shutil.rmtree(folder)
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None and newest.step == 3
    assert train(options, tmp_path / "run", resume=True).state == "finished"
    for phase, before in zip(("warm-up", "answers"), whole, strict=True):
        assert losses(tmp_path / "run", phase) == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize(
    ("hints", "warm_up", "message"),
    [
        (HINTS, None, "word_hints: a warm-up teaches them"),
        (
            [{"task": "sex", "words": 1, "tokens": 1}],
            WARM_UP,
            "word_hints: 1 words of 'sex' are wanted.* has 0",
        ),
        (
            [{"task": "species-common", "words": 5, "tokens": 1}],
            WARM_UP,
            "5 words of 'species-common'.* has 4",
        ),
    ],
)
def test_words_that_no_warm_up_teaches_are_refused(
    tmp_path: Path, hints: Any, warm_up: WarmUpOptions | None, message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        train(hinting(tmp_path, hints, warm_up=warm_up), tmp_path / "run")
    assert not (tmp_path / "run").exists()
