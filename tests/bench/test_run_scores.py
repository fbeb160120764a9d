"""Scores of runs: what must come out for systems whose scores arithmetic tells."""

import json
import random
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from typer.testing import CliRunner

from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.comparing_runs import compare_runs, comparison_to_markdown, draw_comparison
from naturelm.bench.literature import published_figures
from naturelm.bench.published import (
    CAPTIONING,
    CLASSIFICATION,
    DETECTION,
    TASKS,
    Prediction,
    published_scores,
)
from naturelm.bench.running.journal import RunError, RunRow
from naturelm.bench.running.runs import Run
from naturelm.bench.scoring import captions
from naturelm.bench.scoring.pairing import paired_tests
from naturelm.bench.scoring.ranked import calibration, chosen, mean_average_precision, top_5
from naturelm.bench.scoring.run_scores import MAIN, RunScores, score_run
from naturelm.bench.scoring.statistics import interval_of, mean_of, with_intervals
from naturelm.cli.bench import app

ROWS = 40


def labels_of(name: str, rows: int = ROWS) -> list[str]:
    """Right answers of a component: all its labels in turn, of a detection also several at once."""
    facts = beans_zero_components()[name]
    if facts.task == CAPTIONING:
        return [f"A bird number {n} sings {'loud' * (n % 3)} at dawn {n}" for n in range(rows)]
    labels = list(facts.labels[:8])
    if facts.task == DETECTION:
        real = [label for label in labels if label != "None"]
        labels = [*real, "None", ", ".join(real[:2])] if len(real) > 1 else [*real, "None"]
    return [labels[n % len(labels)] for n in range(rows)]


def a_run(
    answer: Callable[[str, str], str], names: Sequence[str] = tuple(TASKS), name: str = "run", **more: object
) -> Run:
    """A finished run whose answers depend on component and right answer."""
    rows = [
        RunRow(f"row-{n}", component, answer(component, label), label, "?", f"recording-{n // 2}")
        for component in names
        for n, label in enumerate(labels_of(component))
    ]
    return run_of(rows, name, **more)


def run_of(rows: Sequence[RunRow], name: str = "run", **more: object) -> Run:
    tasks = {row.dataset_name: TASKS[row.dataset_name] for row in rows}
    about = {"tasks": tasks, "system": {"name": name}, "finished": "2026-01-01", **more}
    return Run(Path(name), about, tuple(rows), {})


def main_of(scores: RunScores) -> dict[str, float]:
    return {of.dataset_name: of.main.value for of in scores.components}


def test_a_perfect_system_scores_one_everywhere() -> None:
    scores = score_run(a_run(lambda _, label: label))
    assert {of.dataset_name for of in scores.components} == set(TASKS)
    for of in scores.components:
        assert of.main.value == pytest.approx(10.0 if of.task == CAPTIONING else 1.0), of.dataset_name
        exact = of.figure("Exact Match")
        assert exact is not None and exact.value == 1 and exact.high == 1 and exact.low is not None
        assert of.groups == ROWS // 2


def test_a_constant_system_scores_what_arithmetic_says() -> None:
    scores = score_run(a_run(lambda name, _: labels_of(name)[0]))
    for of in scores.components:
        labels = labels_of(of.dataset_name)
        if of.task == CLASSIFICATION:
            assert of.main.value == labels.count(labels[0]) / ROWS
            balanced = of.figure("Balanced Accuracy")
            assert balanced is not None and balanced.value == pytest.approx(1 / len(set(labels)))
        elif of.task == DETECTION:
            classes = {part for label in labels for part in label.split(", ")} - {"None"}
            share = sum(labels[0] in label.split(", ") for label in labels) / ROWS
            assert of.main.value == pytest.approx(2 * share / (1 + share) / len(classes))


def test_shuffled_answers_score_chance() -> None:
    values = []
    for seed in range(20):
        rng = random.Random(seed)
        rows = []
        for name in ("esc50", "lifestage", "call-type"):
            labels = labels_of(name)
            said = rng.sample(labels, len(labels))
            rows += [
                RunRow(f"{n}", name, text, label, "?", f"{n}")
                for n, (text, label) in enumerate(zip(said, labels, strict=True))
            ]
        values.append(main_of(score_run(run_of(rows))))
    for name in values[0]:
        chance = 1 / len(set(labels_of(name)))
        assert np.mean([value[name] for value in values]) == pytest.approx(chance, abs=0.06)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    names = ("esc50", "enabirds", "captioning")
    rows = []
    for name in names:
        labels = labels_of(name, 24)
        for n, label in enumerate(labels):
            likely = None if name == "captioning" else {each: rng.random() for each in sorted(set(labels))}
            rows.append(RunRow(str(n), name, rng.choice(labels), label, "?", f"{n % 7}", likely))
    shuffled = rng.sample(rows, len(rows))
    first, second = (score_run(run_of(of)) for of in (rows, shuffled))
    by_name = {of.dataset_name: of for of in second.components}
    for of in first.components:
        for figure in of.figures:
            if figure.name == "mAP":
                continue  # the published evaluator breaks ties by the order of rows
            other = by_name[of.dataset_name].figure(figure.name)
            assert other is not None and other.value == pytest.approx(figure.value, abs=1e-9), figure.name


def test_published_scores_of_a_run_are_those_of_its_file() -> None:
    rng = random.Random(1)
    run = a_run(lambda name, _: rng.choice(labels_of(name)) + "x")
    told = published_scores([Prediction(row.dataset_name, row.prediction, row.label) for row in run.rows])
    for of, published in zip(score_run(run).components, told, strict=True):
        for metric, value in published.metrics.items():
            figure = of.figure(metric)
            assert figure is not None and figure.value == pytest.approx(value, abs=1e-9), (
                of.dataset_name,
                metric,
            )
        exact = of.figure("Exact Match")
        assert exact is not None and exact.value == published.exact == 0


def test_a_row_without_an_answer_is_wrong_also_where_nothing_would_be_taken_for_right() -> None:
    rows = list(a_run(lambda _, label: label, ["esc50"]).rows)
    # No text is nearest to the first of the shortest labels.
    place = next(n for n, row in enumerate(rows) if row.label == "cat")
    rows[place] = replace(rows[place], prediction="")
    assert main_of(score_run(run_of(rows)))["esc50"] == 1
    rows[place] = replace(rows[place], error="it failed")
    scores = score_run(run_of(rows))
    assert main_of(scores)["esc50"] == 1 - 1 / ROWS and scores.components[0].failed == 1
    whale = RunRow("2", "hiceas", "Minke whale", "Minke whale", "?", "b")
    exact = score_run(run_of([RunRow("1", "hiceas", "", "None", "?", "a", error="x"), whale])).components[0]
    assert exact.figure("Exact Match").value == 0.5  # type: ignore[union-attr]


def test_parts_of_a_corpus_s_lists_are_labels_also_where_none_stands_alone() -> None:
    labels = ["quick low whistler, slow high buzzer", "steady deep rasper, quick low whistler", "None"]
    rows = [RunRow(str(n), "mini-detection", label, label, "?", str(n)) for n, label in enumerate(labels)]
    run = Run(Path("run"), {"tasks": {"mini-detection": DETECTION}, "finished": "x"}, tuple(rows), {})
    assert main_of(score_run(run)) == {"mini-detection": 1.0}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_balanced_accuracy_and_average_precision_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = ["a", "b", "c"]
    labels = [*classes, *rng.choice(classes, 20)]
    likely = [{name: float(rng.integers(0, 5)) for name in classes} for _ in labels]
    said = [str(rng.choice(classes)) for _ in labels]
    rows = [
        RunRow(str(n), "lifestage", said[n], labels[n], "?", str(n), likely[n]) for n in range(len(labels))
    ]
    (of,) = score_run(run_of(rows)).components
    balanced, precision = of.figure("Balanced Accuracy"), of.figure("mAP (scores)")
    assert balanced is not None and precision is not None
    assert balanced.value == pytest.approx(balanced_accuracy_score(labels, said))
    expected = np.mean(
        [
            average_precision_score([label == name for label in labels], [of[name] for of in likely])
            for name in classes
        ]
    )
    assert precision.value == pytest.approx(expected)
    assert precision.low is not None and precision.high is not None
    assert precision.low <= precision.value <= precision.high


def test_top_five_gives_nothing_for_scores_that_are_all_alike() -> None:
    labels = [f"label {n}" for n in range(10)]
    flat = dict.fromkeys(labels, 0.1)
    ranked = {label: -n for n, label in enumerate(labels)}
    assert top_5([flat] * 10, labels).value == 0
    assert top_5([ranked] * 10, labels).value == 0.5
    assert top_5([None] * 10, labels).value == 0
    assert chosen({}) is None and chosen(ranked) == "label 0"


def test_calibration_is_the_gap_between_sureness_and_being_right() -> None:
    sure = [{"a": 0.9, "b": 0.1}] * 10
    found = calibration(sure, ["a"] * 9 + ["b"])
    assert found is not None and found.value == pytest.approx(0.0)
    found = calibration(sure, ["a"] * 4 + ["b"] * 6)
    assert found is not None and found.value == pytest.approx(0.5)
    assert calibration([{"a": 3.0}], ["a"]) is None and calibration([None], ["a"]) is None


def test_intervals_hold_the_value_and_shrink_with_recordings_not_with_rows() -> None:
    marks = [1.0, 0.0] * 50
    (many,) = with_intervals([mean_of("x", marks)], list(range(100)))
    (few,) = with_intervals([mean_of("x", marks)], [n // 2 % 10 for n in range(100)])
    (pairs,) = with_intervals([mean_of("x", marks)], [n % 2 for n in range(100)])
    assert many.low is not None and many.high is not None and pairs.low is not None and pairs.high is not None
    assert many.low < 0.5 < many.high and many.high - many.low == pytest.approx(0.2, abs=0.03)
    assert few.low == few.high == 0.5  # every recording is half right
    assert (pairs.low, pairs.high) == (0.0, 1.0)
    (sure,) = with_intervals([mean_of("x", [1.0] * 10)], list(range(10)))
    assert (sure.value, sure.high) == (1.0, 1.0) and sure.low == pytest.approx(0.05 ** (1 / 10))
    low, high = interval_of(np.linspace(0.2, 0.4, 100), 0.5)
    assert low < 0.5 < high


def test_a_coverage_of_about_95_percent() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        marks = (rng.random(60) < 0.3).astype(float)
        (figure,) = with_intervals([mean_of("x", marks)], list(range(60)), seed=seed)
        assert figure.low is not None and figure.high is not None
        held += figure.low <= 0.3 <= figure.high
    assert 0.88 <= held / 200 <= 0.99


def test_paired_tests_tell_systems_apart_and_not_what_is_alike() -> None:
    names = ("esc50", "enabirds")
    right = a_run(lambda _, label: label, names, "right")
    wrong = a_run(lambda name, label: labels_of(name)[0], names, "wrong")
    for test in paired_tests(right, wrong):
        assert (
            test.difference > 0.4 and test.low > 0 and test.adjusted < 0.01 and test.verdict == "right higher"
        )
    for test in paired_tests(wrong, right):
        assert test.difference < -0.4 and test.high < 0 and test.verdict == "right higher"
    for test in paired_tests(right, right):
        assert (test.difference, test.p, test.verdict) == (0, 1.0, "no difference shown")
    fewer = run_of(right.rows[:4], "fewer")
    (test,) = paired_tests(fewer, wrong)
    assert (test.rows, test.groups, test.verdict) == (4, 2, "too few recordings to tell")
    assert paired_tests(a_run(lambda _, label: label, ["cbi"]), wrong) == []


def test_by_chance_alone_a_difference_is_seldom_shown() -> None:
    rng = random.Random(0)
    shown = 0
    for _ in range(60):
        one, two = (a_run(lambda name, _: rng.choice(labels_of(name)), ["lifestage"]) for _ in range(2))
        (test,) = paired_tests(one, two)
        shown += test.p <= 0.05
    assert shown <= 8


def test_runs_side_by_side_have_published_figures_with_their_source() -> None:
    names = ("cbi", "watkins", "zf-indiv", "captioning", "hiceas")
    runs = [
        a_run(lambda _, label: label, names, "same"),
        a_run(lambda name, _: labels_of(name)[0], names, "same"),
    ]
    compared = compare_runs(runs)
    assert compared.names == ("same (1)", "same (2)")
    page = comparison_to_markdown(compared)
    for value in ("0.766", "0.791", "0.675"):
        assert value in page
    assert "arxiv.org/abs/2511.05171" in page and "same (2) less same (1)" in page
    assert json.loads(json.dumps(compared.to_dict()))["tests"][0]["p"] < 0.05
    assert draw_comparison(compared, "svg").startswith(b"<?xml")
    with pytest.raises(RunError, match=r"\.png"):
        draw_comparison(compared, "pickle")
    with pytest.raises(RunError, match="no run"):
        compare_runs([])
    for of in published_figures():
        assert of.source and of.url.startswith("https://") and of.metric == MAIN[TASKS[of.dataset_name]]


def test_without_java_or_its_program_captions_have_cider_and_a_plain_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = score_run(a_run(lambda _, label: label, ["captioning"]))
    assert scores.components[0].main.name == "CIDEr" and scores.components[0].figure("SPICE") is None
    assert scores.notes == ("SPICE and SPIDEr not computed: no Java; install a Java 8 runtime",)
    fake_java(tmp_path, "exit 1")
    found = captions.spice(["a"], ["a"])
    assert found.by_row is None and ("pycocoevalcap" in found.note)


def fake_java(folder: Path, body: str) -> None:
    java = folder / "java"
    java.write_text(f"#!/bin/sh\n{body}\n")
    java.chmod(java.stat().st_mode | stat.S_IEXEC)


def test_spice_is_run_where_its_program_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pycocoevalcap"
    (package / "spice" / "lib").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("spice-1.0.jar", "lib/stanford-corenlp-3.6.0.jar"):
        (package / "spice" / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_java(tmp_path, "exit 1")
    assert "lacks lib/stanford-corenlp-3.6.0-models.jar" in captions.spice(["a"], ["a"]).note
    (package / "spice" / "lib" / "stanford-corenlp-3.6.0-models.jar").touch()
    assert "the program failed" in captions.spice(["a"], ["a"]).note
    row = '{"image_id": %d, "scores": {"All": {"f": %s}}}'
    written = f"[{row % (1, 'NaN')}, {row % (0, '0.5')}]"
    fake_java(
        tmp_path, f"while [ $# -gt 0 ]; do if [ $1 = -out ]; then echo '{written}' > $2; fi; shift; done"
    )
    assert captions.spice(["a", ""], ["a b", "c"]).by_row == (0.5, 0.0)
    assert "1 scores of" not in captions.spice(["a", "b"], ["a", "b"]).note
    assert "2 scores of 1 captions" in captions.spice(["a"], ["a"]).note
    labels = labels_of("captioning")[:2]
    rows = [RunRow(str(n), "captioning", label, label, "?", str(n)) for n, label in enumerate(labels)]
    (of,) = score_run(run_of(rows)).components
    spider, cider = of.figure("SPIDEr"), of.main
    assert spider is not None and spider.value == pytest.approx((cider.value / 10 + 0.25) / 2)


def test_a_file_of_captions_is_scored_with_a_note_on_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = [
        {"dataset_name": "captioning", "prediction": text, "label": text} for text in labels_of("captioning")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = CliRunner().invoke(app, ["score", str(tmp_path / "rows.jsonl"), "--json"])
    assert result.exit_code == 0 and "SPICE and SPIDEr not computed: no Java" in result.stderr
    (scores,) = json.loads(result.stdout)
    assert scores["CIDEr"] == pytest.approx(10) and "SPICE" not in scores


def test_average_precision_of_no_scores_is_that_of_any_order() -> None:
    truth = np.array([[1.0], [0.0], [0.0], [1.0]])
    figure = mean_average_precision([None] * 4, truth, ["a"], list(range(4)))
    assert figure.value == pytest.approx(0.5)
