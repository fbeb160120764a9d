"""`naturelm bench run`, `compare`, `report`: files, exit codes, a kill from outside, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bench.suite_folders import a_row, mixed_rows, write_parquet
from naturelm.bench.models.base import BenchAnswer, BenchItem
from naturelm.cli.bench import app

HERE = "bench.test_bench_command"


def right_but_cats(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    """Knows no cat; of `esc50` it has scores."""
    answers = []
    for item in batch:
        number = int(item.id[-3:])
        said = ("dog", "dog", "frog")[number % 3]
        if item.task == "classification":
            answers.append(BenchAnswer(said, {label: float(label == said) * 0.9 for label in item.labels}))
        else:
            answers.append(BenchAnswer(item.labels[0] if item.labels else "Bird 3 sings at dawn"))
    return answers


def raises(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    raise RuntimeError("no more <b>memory</b>")


def slow(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    """Slow enough to be killed on the way."""
    time.sleep(0.02)
    return right_but_cats(batch)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "data" / "test.parquet", mixed_rows(24))


def run(data: Path, out: Path, system: str = "right_but_cats", *more: object) -> Result:
    return invoke("run", "-m", f"{HERE}:{system}", "--data", data, "-o", out, *more)


def test_a_run_is_scored_compared_and_reported(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    result = run(data, first, "right_but_cats", "--json")
    assert result.exit_code == 0, result.stderr
    scores = {of["dataset_name"]: of for of in json.loads(result.stdout)["components"]}
    accuracy = next(of for of in scores["esc50"]["figures"] if of["name"] == "Accuracy")
    assert accuracy["value"] == pytest.approx(2 / 3) and accuracy["low"] < 2 / 3 < accuracy["high"]
    assert {"predictions.jsonl", "run.json", "scores.json", "scores.md"} <= {
        path.name for path in first.iterdir()
    }
    scored = invoke("score", first / "predictions.jsonl", "--json")
    assert {of["dataset_name"]: of.get("Accuracy") for of in json.loads(scored.stdout)}["esc50"] == accuracy[
        "value"
    ]
    assert run(data, first).exit_code == 0  # nothing is left to ask

    assert run(data, second, "raises").exit_code == 2
    told = run(data, second, "raises")
    assert told.exit_code == 2 and "raised RuntimeError" in told.stderr
    compared = invoke("compare", first, second, "--plot", tmp_path / "plot.svg")
    assert compared.exit_code == 0, compared.stderr
    assert "second less first" in compared.stdout and (tmp_path / "plot.svg").stat().st_size > 1000
    assert len(json.loads(invoke("compare", first, second, "--json").stdout)["tests"]) == 3

    reported = invoke("report", first)
    assert reported.exit_code == 0, reported.stderr
    page = (first / "report.html").read_text()
    assert page.count("<audio controls") >= 3 and "data:image/png;base64," in page
    assert "http:" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert "no more <b>" not in page
    assert invoke("report", second, "-o", tmp_path / "b.html").exit_code == 0
    assert "no more &lt;b&gt;memory" in (tmp_path / "b.html").read_text()


def test_some_rows_of_some_components(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "run", "right_but_cats", "--suite", "hiceas,esc50", "--sample", 3, "--orders", 1,
                 "--wording", "Which of {options}?")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["rows"] == 6 and set(about["prompts"]) == {"hiceas", "esc50"}
    assert (tmp_path / "run" / "predictions-wording1-order1.jsonl").exists()
    assert "wording of the question" in result.stdout
    assert invoke("report", tmp_path / "run").exit_code == 0


def test_what_goes_wrong_is_said_in_a_line(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for arguments, message in (
        (("--suite", "birds"), "no component is called 'birds'"),
        (("--answers", "guess"), "--answers 'guess': must be one of both, generate, choose"),
        (("--set", "threshold"), "write it as KEY=VALUE"),
        (("--set", "threshold=1"), "has no settings"),
        (("--time-limit", "0"), "the time limit is a number of seconds above 0"),
        (("--wording", ""), "a wording is empty"),
        (("--suite", "cbi"), "no rows of cbi"),
    ):
        result = run(data, out, "right_but_cats", *arguments)
        assert result.exit_code == 2 and message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    for model, message in (
        (f"{HERE}:nobody", "has no 'nobody'"),
        ("no_such_module:f", "no module"),
        ("clap", "written clap=FOLDER"),
        ("/no/such/model", "bench systems"),
    ):
        result = invoke("run", "-m", model, "--data", data, "-o", out)
        assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert run(data, out).exit_code == 0
    assert "another run" in run(data, out, "right_but_cats", "--seed", 3).stderr
    assert invoke("compare", tmp_path).exit_code == 2
    assert invoke("report", tmp_path / "nowhere").exit_code == 2
    assert "has other rows" in invoke("report", out, "--data", write_parquet(tmp_path / "d" / "test.parquet", [
        *(a_row(n, dataset_name=name, task=task) for n, (name, task) in enumerate(
            [("esc50", "classification"), ("hiceas", "detection"), ("captioning", "captioning")]))])).stderr  # fmt: skip
    (out / "run.json").write_text("[")
    assert "cannot be read" in invoke("compare", out).stderr


def test_a_report_without_the_sound_says_so(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "run").exit_code == 0
    data.rename(tmp_path / "elsewhere")
    result = invoke("report", tmp_path / "run")
    assert result.exit_code == 1 and "give --data" in result.stderr
    assert "<audio" not in (tmp_path / "run" / "report.html").read_text()
    assert invoke("report", tmp_path / "run", "--data", tmp_path / "elsewhere").exit_code == 0


def test_systems_are_listed() -> None:
    listed = invoke("systems").stdout
    assert "birdnet" in listed and "module:function" in listed
    assert all(json.loads(line)["name"] for line in invoke("systems", "--json").stdout.splitlines())


def test_killed_from_outside_and_started_again_it_ends_as_unbroken(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "data" / "test.parquet", mixed_rows(120))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(data, whole, "slow", "--batch-size", 2).exit_code == 0
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-m", "naturelm", "bench", "run", "-m", f"{HERE}:slow", "--data", str(data)]
    process = subprocess.Popen(
        [*command, "-o", str(broken), "--batch-size", "2"], env=environment, stderr=subprocess.PIPE
    )
    journal = broken / "predictions.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size > 2000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < journal.stat().st_size < (whole / "predictions.jsonl").stat().st_size
    assert run(data, broken, "slow", "--batch-size", 2).exit_code == 0
    assert journal.read_bytes() == (whole / "predictions.jsonl").read_bytes()
    scores = [json.loads((folder / "scores.json").read_text())["components"] for folder in (whole, broken)]
    assert scores[0] == scores[1]
