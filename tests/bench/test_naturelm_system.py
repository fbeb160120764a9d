"""NatureLM-audio as a system of the benchmark, with a small random model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.suite_folders import mixed_rows, write_parquet
from naturelm.bench.models.base import BenchItem
from naturelm.bench.models.naturelm import NatureLMOptions, NatureLMSystem
from naturelm.bench.running.prompts import Variant
from naturelm.bench.running.runner import RunOptions
from naturelm.bench.running.runs import RunRequest, read_run, run_suite
from naturelm.bench.scoring.run_scores import score_run
from naturelm.bench.suites.files import LocalFiles
from naturelm.bench.suites.suite import open_suite
from naturelm.errors import AudioError, QuestionError
from tiny import noise, tiny_naturelm

ITEMS = [
    BenchItem(
        f"{n}",
        "esc50",
        "classification",
        "What is it?",
        noise(0.5 + n / 4, n),
        16_000,
        ("dog", "cat", "frog"),
    )
    for n in range(3)
]


def test_it_writes_and_scores_labels_each_as_it_does_alone() -> None:
    model = tiny_naturelm()
    together = NatureLMSystem(model, NatureLMOptions(max_new_tokens=4)).answer(ITEMS)
    for item, answer in zip(ITEMS, together, strict=True):
        written = model.ask(item.waveform, item.prompt, source_rate=16_000)
        chosen = model.ask(item.waveform, item.prompt, source_rate=16_000, choices=item.labels)
        assert written.text.startswith(answer.prediction)
        assert answer.scores == pytest.approx({of.label: of.probability for of in chosen.choices}, rel=1e-4)
        assert sum(answer.scores.values()) == pytest.approx(1)  # type: ignore[union-attr]


def test_each_way_can_be_had_alone() -> None:
    model = tiny_naturelm()
    chosen = NatureLMSystem(model, NatureLMOptions(generate=False)).answer(ITEMS)
    assert all(of.scores and of.prediction == max(of.scores, key=of.scores.__getitem__) for of in chosen)
    written = NatureLMSystem(model, NatureLMOptions(choose=False, max_new_tokens=2)).answer(ITEMS)
    assert all(of.scores is None for of in written)
    few = NatureLMSystem(model, NatureLMOptions(most_choices=2, max_new_tokens=2)).answer(ITEMS)
    assert all(of.scores is None for of in few)
    # A caption has no closed set, so it is written in any case.
    caption = [replace(ITEMS[0], task="captioning", labels=())]
    assert (
        NatureLMSystem(model, NatureLMOptions(generate=False, max_new_tokens=2)).answer(caption)[0].scores
        is None
    )


def test_merging_alpha_scales_the_adapter() -> None:
    model = tiny_naturelm()
    scores = [
        NatureLMSystem(model, NatureLMOptions(generate=False, merging_alpha=alpha))
        .answer(ITEMS[:1])[0]
        .scores
        for alpha in (1.0, 0.5, 0.0, 1.0)
    ]
    assert scores[0] == scores[3] and scores[0] != scores[1] != scores[2]
    system = NatureLMSystem(model, NatureLMOptions(merging_alpha=0.5), revision="abc")
    assert (
        system.info.name == "tiny"
        and system.info.revision == "abc"
        and "merging_alpha 0.5" in system.info.note
    )
    with pytest.raises(QuestionError, match="merging_alpha"):
        NatureLMSystem(model, NatureLMOptions(merging_alpha=float("nan")))


def test_silence_is_a_question_and_a_clip_that_is_too_long_an_error() -> None:
    system = NatureLMSystem(tiny_naturelm(), NatureLMOptions(max_new_tokens=2))
    assert system.answer([replace(ITEMS[0], waveform=np.zeros(8000, np.float32))])
    with pytest.raises(AudioError):
        system.answer([replace(ITEMS[0], waveform=noise(400.0))])


def test_it_runs_through_a_suite(tmp_path: Path) -> None:
    suite = open_suite(LocalFiles(write_parquet(tmp_path / "test.parquet", mixed_rows(8))))
    request = RunRequest("tiny", "beans-zero", "", (), None, None, 0, (), 0)
    system = NatureLMSystem(tiny_naturelm(), NatureLMOptions(max_new_tokens=2, most_choices=2))
    count = run_suite(system, suite, tmp_path / "run", request, [Variant()], RunOptions(4))
    assert (count.rows, count.failed) == (8, 0)
    scores = {of.dataset_name: of for of in score_run(read_run(tmp_path / "run")).components}
    assert scores["esc50"].figure("Accuracy (chosen)") is None  # 50 labels are more than 2
    assert scores["hiceas"].figure("mAP (scores)") is not None
