"""BEANS-Zero's published scores: against recorded numbers, and against arithmetic."""

import csv
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from naturelm.bench.predictions import read_predictions
from naturelm.bench.published import (
    CAPTIONING,
    CLASSIFICATION,
    DETECTION,
    TASKS,
    Prediction,
    cider,
    matched_answers,
    published_scores,
)
from naturelm.cli.bench import app
from naturelm.errors import NatureLMError

REFERENCE = Path(__file__).parents[3] / "shared" / "beans_zero"
recorded = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference scores in {REFERENCE}")


def cases() -> list[dict[str, str]]:
    return [json.loads(line) for line in (REFERENCE / "metric_cases.jsonl").read_text().splitlines()]


@recorded
def test_scores_are_those_of_the_published_evaluator() -> None:
    rows = [Prediction(row["dataset_name"], row["prediction"], row["label"]) for row in cases()]
    scores = {of.dataset_name: of.metrics for of in published_scores(rows)}
    reference = json.loads((REFERENCE / "metric_reference.json").read_text())
    assert set(scores) == set(reference) == set(TASKS)
    for name, metrics in reference.items():
        if name == "captioning":
            assert scores[name]["CIDEr"] == pytest.approx(metrics["cider_times_10_scale"], abs=1e-6)
            continue
        for metric, value in metrics.items():
            assert scores[name][metric] == pytest.approx(value, abs=1e-5 if metric == "mAP" else 1e-6), (
                name,
                metric,
            )


@recorded
def test_answers_are_matched_as_the_published_evaluator_does() -> None:
    for name, task in TASKS.items():
        rows = [row for row in cases() if row["dataset_name"] == name]
        matched = matched_answers([row["prediction"] for row in rows], [row["label"] for row in rows], task)
        assert matched == [row["matched"] for row in rows]


@recorded
def test_components_are_those_of_beans_zero() -> None:
    components = json.loads((REFERENCE / "components.json").read_text())
    assert {of["name"]: of["task"] for of in components} == dict(TASKS)


LABELS = {
    CLASSIFICATION: ("Hermit Thrush", "Ovenbird", "Beluga, White Whale"),
    DETECTION: ("None", "Wood Thrush", "Veery", "Veery, Wood Thrush"),
    CAPTIONING: ("a bird sings far away", "an owl hoots twice at night", "frogs croak in a wet ditch"),
}


@settings(deadline=None, max_examples=40)
@given(task=st.sampled_from(sorted(LABELS)), seed=st.integers(0, 10_000), count=st.integers(3, 30))
def test_a_perfect_system_scores_one_whatever_the_order(task: str, seed: int, count: int) -> None:
    rng = random.Random(seed)
    labels = [*LABELS[task], *rng.choices(LABELS[task], k=count)]
    rng.shuffle(labels)
    (scores,) = published_scores([Prediction("x", label, label) for label in labels], {"x": task})
    assert scores.exact == 1
    # The label with a comma is no single part of itself.
    whole = labels.count("Beluga, White Whale") / len(labels)
    expected = {"CIDEr": 10.0, "Top-1 Accuracy": 1 - whole}
    for name, value in scores.metrics.items():
        assert value == pytest.approx(expected.get(name, 1.0))


def test_a_constant_answer_scores_what_arithmetic_says() -> None:
    labels = ["a"] * 6 + ["b"] * 2
    (scores,) = published_scores([Prediction("x", "a", label) for label in labels], {"x": CLASSIFICATION})
    assert scores.metrics["Accuracy"] == scores.metrics["Recall"] == 0.75
    assert scores.metrics["Precision"] == pytest.approx(0.75 * 0.75)
    assert scores.metrics["F1 Score"] == pytest.approx(0.75 * 2 * 0.75 / 1.75)


def test_a_detector_that_says_none_finds_nothing() -> None:
    rows = [Prediction("x", "None", label) for label in ("Veery", "Veery, Wood Thrush", "None")]
    (scores,) = published_scores(rows, {"x": DETECTION})
    assert (scores.metrics["F1"], scores.metrics["Recall"], scores.metrics["Precision"]) == (0, 0, 0)
    assert scores.exact == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("written", "task", "taken_for"),
    [
        ("Hermit Trush<|end_of_text|> and more", CLASSIFICATION, "Hermit Thrush"),
        ("hermit thrush", CLASSIFICATION, "Hermit Thrush"),
        ("Veery, Wod Thrsh", DETECTION, "Veery, Wood Thrush"),
        ("a bird that nobody knows", DETECTION, "None"),
        ("", DETECTION, "None"),
        ("Any words.<|end_of_text|>", CAPTIONING, "Any words."),
    ],
)
def test_what_is_written_is_taken_for_the_nearest_label(written: str, task: str, taken_for: str) -> None:
    assert matched_answers([written], LABELS[task], task) == [taken_for]


def test_captions_without_a_common_word_score_zero() -> None:
    assert cider(["x y z", "p q r"], ["a b c", "d e f"]) == 0


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(NatureLMError, match="no component is called 'birds'"):
        published_scores([Prediction("birds", "a", "a")])


def score(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["score", str(path), *arguments])


def test_csv_and_json_lines_give_the_same_scores(tmp_path: Path) -> None:
    rows = [
        {"dataset_name": "esc50", "prediction": p, "label": q} for p, q in (("dog", "dog"), ("cta", "cat"))
    ]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert read_predictions(lines) == read_predictions(table)
    first, second = score(lines, "--json"), score(table, "--json")
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    (scores,) = json.loads(first.stdout)
    assert (scores["rows"], scores["Accuracy"], scores["exact"]) == (2, 1.0, 0.5)


def test_faulty_rows_are_told_and_the_rest_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"dataset_name": "esc50", "prediction": "dog", "label": "dog"}
    rows: list[object] = [
        {**good, "id": 1},
        {**good, "id": 1},
        {**good, "prediction": ["dog"]},
        {**good, "prediction": float("nan")},
        {**good, "label": None},
        {**good, "prediction": None},
        {**good, "dataset_name": "birds"},
        [1],
    ]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + "{not json\n" + "[" * 100_000 + '\n{"label": "x"}\n'
    )
    result = score(path, "--json")
    assert result.exit_code == 1
    (scores,) = json.loads(result.stdout)
    # What is no text is wrong, also where `dog` is the only label and so the nearest.
    assert (scores["rows"], scores["exact"], scores["Accuracy"]) == (4, 0.25, 0.25)
    for told in (
        "line 2: a second row of id 1 of esc50",
        "line 3: its prediction is no text but list; it counts as wrong",
        "line 4: its prediction is no text but NaN",
        "line 5: its label is no text",
        "line 6: its prediction is missing",
        "line 8: JSON, but no object",
        "line 9: no JSON object on a line of its own;",
        "line 10: no JSON object on a line of its own;",
        "line 11: no column dataset_name, prediction;",
        "'birds' is no component of BEANS-Zero",
    ):
        assert told in result.stderr, told


def test_a_table_with_empty_nan_listed_and_endless_predictions_is_scored_with_a_word_on_each(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    good = "esc50,dog,dog\nesc50,cat,cat\n"
    rows = [
        "esc50,,cat",
        "esc50,NaN,dog",
        "esc50,\"['dog']\",dog",
        f"esc50,{'x' * 200_000},dog",
        "captioning,A bird,A bird",
    ]
    path.write_text("dataset_name,prediction,label\n" + good + "\n".join(rows) + "\n")
    before = csv.field_size_limit()
    result = score(path, "--json")
    assert csv.field_size_limit() == before
    assert result.exit_code == 1
    scores = {of["dataset_name"]: of for of in json.loads(result.stdout)}
    assert scores["esc50"]["rows"] == 6 and scores["esc50"]["exact"] == pytest.approx(2 / 6)
    assert scores["captioning"]["exact"] == 1
    for told in (
        "line 5: its prediction is no text but NaN; it counts as wrong",
        "1 predictions are empty; each is taken for the nearest label",
        "1 predictions look like lists",
    ):
        assert told in result.stderr, told


def test_rows_in_another_order_score_the_same(tmp_path: Path) -> None:
    rng = random.Random(2)
    labels = {"esc50": ("dog", "cat", "hen"), "captioning": ("A bird sings", "An owl hoots", "Frogs croak")}
    rows = [
        {"id": n, "dataset_name": name, "prediction": rng.choice(of), "label": rng.choice(of)}
        for name, of in labels.items()
        for n in range(30)
    ]
    scores = []
    for number in range(2):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rng.sample(rows, len(rows))))
        scores.append({of.pop("dataset_name"): of for of in json.loads(score(path, "--json").stdout)})
    assert scores[0].keys() == scores[1].keys() == labels.keys()
    for name in labels:
        assert scores[0][name] == pytest.approx(scores[1][name])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "prediction,label\nx,y\n", "no column dataset_name"),
        (
            "a.csv",
            "dataset_name;prediction;label\nesc50;x;y\n",
            "its header has: dataset_name;prediction;label",
        ),
        ("a.json", '[\n {"a": 1}\n]\n', "line 1: no JSON object on a line of its own"),
        ("a.csv", "", "no column dataset_name, prediction, label"),
        ("a.csv", "dataset_name,prediction,label\n", "no usable prediction"),
        ("a.jsonl", '{"prediction": "x"}\n', "line 1: no column dataset_name, label"),
        ("a.jsonl", "", "no usable prediction"),
    ],
)
def test_what_is_no_file_of_predictions_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    result = score(tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr and str(tmp_path / name) in result.stderr


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert score(tmp_path / "no.csv").exit_code == 2
    (tmp_path / "sound.csv").write_bytes(bytes(range(256)))
    result = score(tmp_path / "sound.csv")
    assert result.exit_code == 2 and "UTF-8" in result.stderr
