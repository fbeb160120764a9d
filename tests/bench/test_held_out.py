"""Scores of answerers whose worth is known, what is written of them, and rows that fail."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.answerers import FakeAnswerer, by_question
from corpus.corpora import RATE, a_pair, write_corpus
from naturelm.bench.baseline import PlainBaseline
from naturelm.bench.components import read_components
from naturelm.bench.held_out import HeldOutReport, Score, score_held_out
from naturelm.bench.report import write_report
from naturelm.corpus.options import CorpusError
from naturelm.corpus.schema import Pair

BIRDS = ("wren", "robin", "rook", "jay")
SHORT = np.full(RATE // 10, 0.1, np.float32)


def row(number: int, split: str, component: str, answer: str, **changes: object) -> Pair:
    labels = tuple(part for part in answer.split(", ") if part != "None")
    fields = {
        "samples": SHORT,
        "id": f"{component}-{split}-{number}",
        "dataset_name": component,
        "instruction_text": f"{component} {number}?",
        "output": answer,
        "labels": labels,
        "groups": (f"xeno-canto:{component}-{split}-{number // 2}",),
    }
    return a_pair(number, split, **{**fields, **changes})


def pairs() -> list[Pair]:
    rows = [row(n, "train", "birds", BIRDS[n % 2]) for n in range(6)]
    rows += [row(n, "test", "birds", BIRDS[n % 4]) for n in range(40)]
    there = ["None", "wren", "wren, jay", "robin, wren"]
    several = {"task": "detection-options", "options": ("wren", "jay", "robin", "rook")}
    rows += [row(n, "train", "presence", there[n % 4], **several) for n in range(8)]
    rows += [row(n, "test", "presence", there[n % 4], **several) for n in range(12)]
    # A clip of silence is a question like others.
    rows[-12] = row(0, "test", "presence", "None", **several, samples=np.zeros(RATE, np.float32))
    caption = {"task": "caption", "taxa": ()}
    rows += [
        row(n, split, "captions", f"A {BIRDS[n]} sings.", **caption)
        for split in ("train", "test")
        for n in range(4)
    ]
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), pairs())


@pytest.fixture(scope="module")
def right() -> dict[str, str]:
    return {pair.instruction_text: pair.output for pair in pairs() if pair.split == "test"}


def scores_of(report: HeldOutReport) -> dict[tuple[str, str], Score]:
    return {(score.component, score.metric): score for score in report.scores}


def test_who_is_always_right_gets_1_and_who_is_always_wrong_0(folder: Path, right: dict[str, str]) -> None:
    best = scores_of(score_held_out(FakeAnswerer(lambda q: right[q.question].upper() + "."), folder))
    assert set(best) == {
        ("birds", "exact"), ("birds", "choice"), ("captions", "word_f1"),
        ("presence", "exact"), ("presence", "f1"), ("presence", "choice"),
    }  # fmt: skip
    written = [score for score in best.values() if score.metric != "choice"]
    assert {score.value for score in written} == {1.0}
    assert all(score.low < score.value == score.high for score in written)
    worst = score_held_out(FakeAnswerer(lambda query: "gnu"), folder, choices=False)
    assert {score.value for score in worst.scores} == {0.0}
    assert {score.metric for score in worst.scores} == {"exact", "f1", "word_f1"}


def test_closed_sets_are_the_options_or_the_components_answers(folder: Path, right: dict[str, str]) -> None:
    def reply(query) -> str:
        if query.choices:
            expected = set(BIRDS) | ({"None"} if query.question.startswith("presence") else set())
            assert set(query.choices) == expected
            return right[query.question].split(", ")[0]
        return "gnu"

    found = scores_of(score_held_out(FakeAnswerer(reply), folder))
    assert found["birds", "choice"].value == found["presence", "choice"].value == 1.0
    assert found["birds", "exact"].value == 0.0
    assert {of.choice_probability for of in score_held_out(FakeAnswerer(reply), folder).answers} == {
        0.75,
        None,
    }


def test_chance_is_what_a_guesser_gets(folder: Path) -> None:
    rng = np.random.default_rng(0)
    always = scores_of(score_held_out(FakeAnswerer(lambda query: "None"), folder))
    # Of the answers that training knows `None` is as frequent as any, and so it is in the component.
    assert always["presence", "exact"].value == always["presence", "exact"].chance == 0.25
    assert always["birds", "exact"].chance == 0.25
    guesses = [
        scores_of(
            score_held_out(FakeAnswerer(lambda query: str(rng.choice(BIRDS))), folder, components=["birds"])
        )["birds", "choice"]
        for _ in range(30)
    ]
    assert np.mean([of.value for of in guesses]) == pytest.approx(guesses[0].chance, abs=0.04)


def test_the_answer_that_training_has_most_often_is_the_guess(tmp_path: Path) -> None:
    rows = [row(n, "train", "birds", "rook" if n else "wren") for n in range(4)]
    rows += [row(n, "test", "birds", "rook" if n < 6 else BIRDS[n % 2]) for n in range(10)]
    rows += [row(n, "test", "unseen", ("gull", "gull", "tern")[n % 3]) for n in range(6)]
    found = scores_of(score_held_out(FakeAnswerer(lambda query: ""), write_corpus(tmp_path, rows)))
    assert (found["birds", "exact"].chance, found["birds", "exact"].chance_by) == (
        0.6,
        "most frequent answer",
    )
    assert found["unseen", "exact"].chance == pytest.approx(2 / 3)


def test_intervals_draw_whole_recordings(folder: Path, right: dict[str, str]) -> None:
    # Right about two of four recordings in a row: two rows of a recording are right or wrong together.
    answerer = FakeAnswerer(
        lambda query: right[query.question] if int(query.question[:-1].split()[1]) % 4 < 2 else "gnu"
    )
    score = scores_of(score_held_out(answerer, folder, choices=False))["birds", "exact"]
    assert (score.value, score.n, score.groups) == (0.5, 40, 20)
    assert score.high - score.low > 0.35  # 40 rows alone: 0.31


def test_limit_and_components(folder: Path, right: dict[str, str]) -> None:
    answerer = FakeAnswerer(by_question(right))
    seen: list[tuple[int, int]] = []
    report = score_held_out(
        answerer,
        folder,
        components=["birds"],
        limit=8,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {score.component for score in report.scores} == {"birds"} and len(report.answers) == 8
    assert seen[0] == (0, 8) and seen[-1] == (8, 8)
    assert answerer.calls == [16]  # written and chosen together, so that each clip is heard once
    # The closed set is that of the whole component.
    assert read_components(folder, names=["birds"], limit=1)[0].labels == tuple(sorted(BIRDS))
    with pytest.raises(CorpusError, match=r"no component ants.*birds, captions, presence"):
        score_held_out(answerer, folder, components=["birds", "ants"])


def test_rows_that_fail_are_listed_and_the_others_scored(tmp_path: Path, right: dict[str, str]) -> None:
    rows = [replace(of, audio=b"nothing") if of.id == "birds-test-3" else of for of in pairs()]
    folder = write_corpus(tmp_path, rows)
    answerer = FakeAnswerer(lambda query: "refuse" if query.question == "birds 5?" else right[query.question])
    report = score_held_out(answerer, folder, components=["birds"])
    assert [of.id for of in report.failures] == ["birds-test-3", "birds-test-5"]
    assert "too long" in report.failures[1].error
    score = scores_of(report)["birds", "exact"]
    assert (score.n, score.value) == (38, 1.0)
    alone = score_held_out(FakeAnswerer(lambda query: "refuse"), folder, components=["birds"])
    assert alone.scores == () and len(alone.failures) == 40


def test_silence_is_asked_about(folder: Path, right: dict[str, str]) -> None:
    answerer = FakeAnswerer(by_question(right))
    score_held_out(answerer, folder, components=["presence"], choices=False)
    assert not np.any(answerer.clips[0].samples) and len(answerer.clips[0].samples) == RATE


def test_the_baseline_is_scored_on_the_same_rows(folder: Path, right: dict[str, str]) -> None:
    baseline = PlainBaseline(folder)
    report = score_held_out(FakeAnswerer(by_question(right)), folder, baseline=baseline)
    found = scores_of(report)
    # It hears the same sound in every row, and training knows two of the four birds.
    score = found["birds", "exact"]
    assert score.baseline == 0.25
    assert score.gain_low is not None and 0 < score.gain_low <= 0.75 <= score.gain_high
    assert found["captions", "word_f1"].baseline is None
    assert {of.baseline_written for of in report.answers if of.component == "birds"} <= {"wren", "robin"}


def test_files_say_what_was_found(folder: Path, right: dict[str, str], tmp_path: Path) -> None:
    answers = dict(right)
    answers["birds 0?"], answers["birds 1?"] = "jay", "albatross"
    report = score_held_out(FakeAnswerer(by_question(answers)), folder)
    files = write_report(report, tmp_path / "new" / "out", title="a model on a corpus")
    assert {path.name for path in files} == {
        "scores.json", "scores.md", "answers.parquet", "confusion-birds-written.csv", "confusion-birds-choice.csv",
    }  # fmt: skip
    out = tmp_path / "new" / "out"
    rows = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert {"component", "metric", "value", "low", "high", "n", "chance", "baseline"} <= set(rows[0])
    assert [of["value"] for of in rows] == [score.value for score in report.scores]
    table = pq.read_table(out / "answers.parquet").to_pylist()
    assert len(table) == len(report.answers)
    assert table[0]["id"] == "birds-test-0" and (table[0]["written"], table[0]["exact"]) == ("jay", 0.0)
    with (out / "confusion-birds-written.csv").open(encoding="utf-8", newline="") as file:
        taken = {line["answer"]: line for line in csv.DictReader(file)}
    assert (taken["wren"]["jay"], taken["wren"]["wren"]) == ("1", "9")
    assert (taken["robin"]["other"], taken["robin"]["robin"]) == ("1", "9")
    text = (out / "scores.md").read_text(encoding="utf-8")
    assert text.startswith("# a model on a corpus\n") and "| birds | exact | 0.950 |" in text


def test_invented_animals_have_no_confusion_table(tmp_path: Path) -> None:
    invented = {"metadata": json.dumps({"invented": True})}
    rows = [row(n, split, "birds", BIRDS[n % 2], **invented) for split in ("train", "test") for n in range(4)]
    report = score_held_out(FakeAnswerer(lambda query: "wren"), write_corpus(tmp_path, rows))
    assert report.confusions == () and scores_of(report)["birds", "exact"].value == 0.5
