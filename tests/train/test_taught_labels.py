"""Labels that a frozen ear is taught from the corpora."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import write_corpus
from test_label_rows import PROJECTOR
from training import KINDS, WARM_UP, kind_pair, losses, tiny_options, tone

from labelled_ear import LabelledEar, LabelledEarConfig
from naturelm.corpus.storage import Corpus
from naturelm.model.loading import load_model
from naturelm.train.data import TrainingRows
from naturelm.train.label_rows import LabelRows, background_rows, label_embeddings
from naturelm.train.mixture import mixture_rows
from naturelm.train.options import MixtureOptions, TrainError, TrainOptions
from naturelm.train.run import train
from naturelm.train.taught_labels import fit_taught_labels

EAR = LabelledEar(LabelledEarConfig())


def corpus_of_kinds(folder: Path, animals: int = 40, others: int = 12) -> Path:
    """Tones by four kinds, and noise in which no animal calls, of two sources."""
    rows = [kind_pair(number) for number in range(animals)]
    for number in range(animals, animals + others):
        noise = np.random.default_rng(number).normal(0, 0.05, 12_000).astype(np.float32)
        source = ("noise", "fauna")[number % 2]
        rows.append(
            kind_pair(
                number,
                samples=noise,
                output="None",
                taxa=(),
                labels=(),
                task="detection",
                source_dataset=source,
            )
        )
    return write_corpus(folder, rows)


def teachable(root: Path, **changes: object) -> TrainOptions:
    options = tiny_options(root, **changes)
    projector = {**PROJECTOR, "taught_hints": 2, "taught_hint_tokens": 6, "frame_dropout": 0.5}
    audio = {"model_type": LabelledEarConfig.model_type}
    return replace(options, model=replace(options.model, audio=audio, projector=projector))


def test_they_tell_the_animals_of_other_clips_and_are_unsure_where_there_is_none(tmp_path: Path) -> None:
    rows = TrainingRows([Corpus(corpus_of_kinds(tmp_path / "corpus"))], 16_000, 2, EAR.hear)
    columns = mixture_rows(rows.corpora)
    backgrounds = background_rows(columns, {"fauna": 0})
    assert backgrounds == [number for number in range(40, 52) if number % 2 == 0]
    made = LabelRows(label_embeddings(EAR, rows, backgrounds), 20, 0, (8000,))
    taught = fit_taught_labels(rows, columns, np.ones(len(rows), bool), backgrounds, made)
    assert taught.names == tuple(sorted(f"{name} ({name}us {name.lower()}us)" for name in KINDS))

    def scores(sound: np.ndarray) -> np.ndarray:
        logits = taught.weight @ EAR.hear(sound).mean(0) + taught.bias
        return np.exp(logits) / np.exp(logits).sum()

    for name, pitch in KINDS.items():
        found = scores(tone(pitch * 1.02, 1.0, 1000))
        assert taught.names[found[:-1].argmax()].startswith(name)
    assert scores(np.random.default_rng(9).normal(0, 0.05, 12_000).astype(np.float32)).argmax() == len(KINDS)


def test_rows_that_are_not_drawn_teach_nothing(tmp_path: Path) -> None:
    rows = TrainingRows([Corpus(corpus_of_kinds(tmp_path / "corpus"))], 16_000, 2, EAR.hear)
    drawn = np.arange(len(rows)) % len(KINDS) != 0
    taught = fit_taught_labels(rows, mixture_rows(rows.corpora), drawn, [], None)
    assert len(taught.names) == len(KINDS) - 1 and not any(name.startswith("Dog") for name in taught.names)


@pytest.mark.parametrize(("animals", "hints", "found"), [(8, 2, 0), (40, 5, 4)])
def test_too_few_animals_are_refused_with_the_cure(
    tmp_path: Path, animals: int, hints: int, found: int
) -> None:
    options = teachable(tmp_path, corpus=(corpus_of_kinds(tmp_path / "few", animals=animals, others=0),))
    projector = {**options.model.projector, "taught_hints": hints}
    options = replace(options, model=replace(options.model, projector=projector))
    with pytest.raises(
        TrainError, match=rf"taught_hints: the corpora name {found} animals.*{hints} are needed"
    ):
        train(options, tmp_path / "run")


def test_a_run_teaches_them_keeps_them_and_goes_on_from_them(tmp_path: Path) -> None:
    corpus = corpus_of_kinds(tmp_path / "corpus")
    options = teachable(
        tmp_path, corpus=(corpus,), mixture=MixtureOptions(label_pairs=12), warm_up=WARM_UP, save_every=3
    )
    assert train(options, tmp_path / "whole").state == "finished"
    model = load_model(tmp_path / "whole" / "model")
    assert model.config.projector_config.taught_labels == tuple(
        sorted(f"{name} ({name}us {name.lower()}us)" for name in KINDS)
    )
    assert train(replace(options, steps=3), tmp_path / "part").state == "finished"
    saved = load_model(tmp_path / "part" / "model")
    assert torch.equal(model.hints.taught_weight, saved.hints.taught_weight)
    # Another corpus of its own animals changes nothing: the language model has learnt to read these labels.
    other = corpus_of_kinds(tmp_path / "other", animals=48)
    start = replace(options.model, start=str(tmp_path / "whole"))
    following = replace(options, corpus=(other,), warm_up=None, model=start)
    assert train(following, tmp_path / "next").state == "finished"
    following_model = load_model(tmp_path / "next" / "model")
    assert torch.equal(model.hints.taught_weight, following_model.hints.taught_weight)
    assert all(np.isfinite(list(losses(tmp_path / "next").values())))


def test_a_run_that_is_resumed_has_the_losses_of_one_that_was_not(tmp_path: Path) -> None:
    corpus = corpus_of_kinds(tmp_path / "corpus")
    options = teachable(tmp_path, corpus=(corpus,), save_every=3)
    assert train(options, tmp_path / "run").state == "finished"
    whole = losses(tmp_path / "run")
    for lost in ("model", "checkpoints/answers-000006"):
        shutil.rmtree(tmp_path / "run" / lost)
    assert train(options, tmp_path / "run", resume=True).state == "finished"
    lines = (tmp_path / "run" / "log.jsonl").read_text().count('"kind": "step"')
    assert lines == len(whole) + 3  # the last three steps were done again
    assert losses(tmp_path / "run") == pytest.approx(whole, abs=1e-5)
