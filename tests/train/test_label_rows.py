"""Pairs about an ear's own labels, and frames that are heard where rows are loaded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training import WARM_UP, tiny_options

from labelled_ear import LABELS, SIZE, LabelledEar, LabelledEarConfig
from naturelm.corpus.storage import Corpus
from naturelm.train.building import build_model
from naturelm.train.data import AnswerCollator, TrainingRows
from naturelm.train.label_rows import (
    LABEL_SOURCE,
    EarLabel,
    LabelEmbeddings,
    LabelRows,
    clip_lengths,
    label_columns,
)
from naturelm.train.options import MixtureOptions, ModelOptions, TrainError, TrainOptions
from naturelm.train.run import train
from naturelm.train.runlog import read_facts, read_log

PROJECTOR = {
    "kind": "mean",
    "window_frames": 1,
    "stride_frames": 1,
    "output_layer_norm": True,
    "honour_mask": True,
    "label_hints": 1,
    "label_hint_tokens": 6,
}


def embeddings(seed: int = 0, size: int = SIZE) -> LabelEmbeddings:
    rng = np.random.default_rng(seed)
    return LabelEmbeddings(
        tuple(EarLabel(f"bird {n}", f"Genus{n % 7} species{n}") for n in range(LABELS)),
        rng.normal(0, 0.3, (LABELS, size)).astype(np.float32),
        rng.normal(-3, 0.5, LABELS).astype(np.float32),
        np.maximum(rng.normal(0.5, 1, (5, size)), 0).astype(np.float32),
    )


def labelled_model(options: TrainOptions) -> ModelOptions:
    return replace(options.model, audio={"model_type": LabelledEarConfig.model_type}, projector=PROJECTOR)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    label=st.integers(0, LABELS - 1),
    score=st.floats(0, 5),
    count=st.integers(1, 4),
)
def test_a_made_embedding_is_what_the_ear_takes_for_its_label(
    seed: int, label: int, score: float, count: int
) -> None:
    made = embeddings(seed % 10, size=200)
    frames = made.make(label, score, np.random.default_rng(seed), count)
    assert frames.shape == (count, 200) and frames.dtype == np.float32 and frames.min() >= 0
    scores = (frames @ made.weight.T + made.bias).max(0)
    assert scores.argmax() == label and scores[label] >= score - 0.1
    cosines = [
        [frame @ real / np.linalg.norm(frame) / np.linalg.norm(real) for real in made.backgrounds]
        for frame in frames
    ]
    # All but one are real, if perhaps weaker.
    assert np.sum(np.max(cosines, 1) > 0.9999) >= count - 1


def test_lengths_of_clips_that_give_so_many_frames() -> None:
    lengths = clip_lengths(lambda samples: 1 + max(0, samples - 3) // 2 if samples else 0, 8)
    assert lengths == (1, 5, 7)


def test_rows_are_pure_hold_labels_back_and_answer_what_the_ear_takes_them_for() -> None:
    made = embeddings()
    rows, again = (LabelRows(made, 300, 7, (8000, 12_000, 16_000)) for _ in range(2))
    columns = label_columns(300)
    held_out = {label.common for label in made.labels if label.is_held_out}
    assert held_out and len(held_out) < LABELS / 2
    for number in range(len(rows)):
        row, same = rows[number], again[number]
        assert (row.question, row.answer) == (same.question, same.answer)
        assert np.array_equal(row.frames, same.frames)
        assert (row.task, row.source) == (columns.tasks[number], LABEL_SOURCE)
        taken = made.labels[int((row.frames @ made.weight.T + made.bias).max(0).argmax())]
        assert taken.common not in held_out
        if row.task == "species-scientific":
            assert row.answer == taken.scientific
        elif row.answer == "None":
            assert taken.common not in row.question.replace(".", ",").split(", ")
        else:
            assert row.answer == taken.common
            assert row.task != "detection-options" or row.answer in row.question
    everything = [rows[number] for number in range(300)]
    assert {row.answer == "None" for row in everything} == {True, False}
    # Long pairs share batches with long ones.
    characters = {
        task: np.mean([len(row.question) for row in everything if row.task == task]) for task in columns.tasks
    }
    tokens = dict(zip(columns.tasks, columns.tokens, strict=True))
    assert (
        max(characters, key=characters.__getitem__)
        == max(tokens, key=tokens.__getitem__)
        == "detection-options"
    )
    assert {(len(row.frames), len(row.samples)) for row in everything} == {
        (1, 8000),
        (2, 12_000),
        (3, 16_000),
    }


def test_another_seed_gives_other_rows() -> None:
    first, second = (LabelRows(embeddings(), 20, seed, (8000,)) for seed in (0, 1))
    assert [row.answer for row in map(first.__getitem__, range(20))] != [
        row.answer for row in map(second.__getitem__, range(20))
    ]


def test_heard_while_loading_or_by_the_model_is_one(tmp_path: Path) -> None:
    options = tiny_options(tmp_path)
    built = build_model(labelled_model(options))
    ear = built.model.ear
    assert isinstance(ear, LabelledEar) and not built.untrained_ear
    corpora = [Corpus(folder, "train") for folder in options.corpus]
    collate = AnswerCollator(built.processor)
    losses = []
    for hear in (None, ear.hear):
        rows = TrainingRows(corpora, 16_000, 2, hear)
        batch = collate([rows[number] for number in range(6)])
        assert ("heard" in batch) == (hear is not None) and ("input_values" in batch) == (hear is None)
        batch.pop("examples")
        losses.append(built.model.eval()(**batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_run_draws_them_beside_the_corpus(tmp_path: Path) -> None:
    options = tiny_options(tmp_path)
    options = replace(
        options,
        model=labelled_model(options),
        mixture=MixtureOptions(label_pairs=30, sources={LABEL_SOURCE: 2}),
        warm_up=WARM_UP,
        evaluation_pairs=4,
        evaluate_every=3,
        workers=1,
    )
    report = train(options, tmp_path / "run")
    assert report.state == "finished"
    facts = read_facts(tmp_path / "run")
    assert 0 < facts.source_shares[LABEL_SOURCE] < 1
    steps = [line for line in read_log(tmp_path / "run") if line["kind"] == "step"]
    drawn = {source for line in steps if line["phase"] == "answers" for source in line["sources"]}
    assert LABEL_SOURCE in drawn and len(drawn) > 1
    assert not any(LABEL_SOURCE in line["sources"] for line in steps if line["phase"] == "warm-up")


def test_an_ear_without_labels_is_refused(tmp_path: Path) -> None:
    options = tiny_options(tmp_path, mixture=MixtureOptions(label_pairs=3))
    with pytest.raises(TrainError, match=r"mixture\.label_pairs: this ear has no labels"):
        train(options, tmp_path / "run")
