"""`naturelm bench run`, `compare`, `report`: files, exit codes, a kill from outside, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from bench.suite_folders import a_row, mixed_rows, to_table, write_parquet
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


def stuck(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    """Answers the first rows, then never again."""
    if any(int(item.id[-3:]) > 4 for item in batch):
        time.sleep(30)
    return right_but_cats(batch)


def too_few(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    """Of the first row, and of each batch that it is in, one answer is missing."""
    return right_but_cats(batch)[any(item.id.endswith("-000") for item in batch) :]


def fussy(batch: Sequence[BenchItem]) -> list[BenchAnswer]:
    """Does not take the first row."""
    if any(item.id.endswith("-000") for item in batch):
        raise ValueError("not this")
    return right_but_cats(batch)


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
    assert "(0.000 to 0.393; no answer)" in compared.stdout  # `second` answers nothing
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
        (("--revision", "abc"), "--revision abc is one of the hub's"),
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.parquet", b"", "test.parquet: cannot be read"),
        ("test.arrow", b"", "test.arrow: cannot be read"),
        ("test.parquet", b"PAR1 no table PAR1", "test.parquet: cannot be read"),
        ("rows.csv", b"a,b", "rows.csv: neither a .parquet nor an .arrow file"),
    ],
)
def test_a_file_that_is_no_data_is_named_once(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    result = run(tmp_path / name, tmp_path / "run")
    assert result.exit_code == 2 and f"error: {tmp_path}/{message}" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"esc50": "singing"}}, "its tasks are no components"),
        ({"tasks": {"esc50": ["classification"]}}, "its tasks are no components"),
        ({"tasks": {"hiceas": "detection"}}, "has rows of "),
        ({"request": 3}, "its request is a int"),
        ({"request": {"settings": []}}, "a text in it is none"),
        ({"system": {"name": 3}}, "a text in it is none"),
        ({"variants": {"a": 1}}, "its variants is a dict"),
        ({"rows": "many"}, "its rows is a str"),
    ],
)
def test_what_is_no_run_is_refused(
    data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    out = tmp_path / "run"
    assert run(data, out, "right_but_cats", "--limit", 1).exit_code == 0
    about = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**about, **change}))
    for command in ("compare", "report"):
        result = invoke(command, out)
        assert result.exit_code == 2 and message in result.stderr, result.stderr
        assert isinstance(result.exception, SystemExit)


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


def test_killed_at_three_points_and_started_again_it_ends_as_unbroken(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "data" / "test.parquet", mixed_rows(120))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(data, whole, "slow", "--batch-size", 2).exit_code == 0
    journal, size = broken / "predictions.jsonl", (whole / "predictions.jsonl").stat().st_size
    for share in (0.1, 0.4, 0.8):
        # A process of its own, that has everything loaded.
        child = os.fork()
        if child == 0:
            run(data, broken, "slow", "--batch-size", 2)
            os._exit(0)
        deadline = time.monotonic() + 120
        while (
            not (journal.exists() and journal.stat().st_size > share * size) and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert share * size < journal.stat().st_size < size
        assert not (broken / "scores.json").exists()
    assert run(data, broken, "slow", "--batch-size", 2).exit_code == 0
    assert journal.read_bytes() == (whole / "predictions.jsonl").read_bytes()
    scores = [json.loads((folder / "scores.json").read_text())["components"] for folder in (whole, broken)]
    assert scores[0] == scores[1]
    assert len(json.loads((broken / "run.json").read_text())["resumed"]) == 3


def test_a_function_in_the_current_folder_is_found_by_the_installed_command(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "test.parquet", mixed_rows(4))
    (tmp_path / "mine.py").write_text(
        "def shortest(batch):\n    return [min(of.labels or ['x'], key=len) for of in batch]\n"
    )
    # -P: the folder is not put on the path, as it is not for a console script.
    command = [
        sys.executable,
        "-P",
        "-m",
        "naturelm",
        "bench",
        "run",
        "-m",
        "mine:shortest",
        "--data",
        "data",
        "-o",
        "run",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Accuracy" in done.stdout and "4 of 4 rows asked now" in done.stderr


def test_a_component_without_rows_is_told_and_the_rest_is_scored(data: Path, tmp_path: Path) -> None:
    pq.write_table(to_table([a_row(0, dataset_name="cbi")]).slice(0, 0), data / "test-empty.parquet")
    result = run(data, tmp_path / "named", "right_but_cats", "--suite", "esc50,cbi", "--json")
    assert result.exit_code == 1 and f"{data}: no rows of cbi" in result.stderr
    scores = json.loads(result.stdout)
    assert [of["dataset_name"] for of in scores["components"]] == ["esc50"]
    assert scores["notes"] == ["the data has no rows of cbi"]
    whole = run(data, tmp_path / "whole")
    assert whole.exit_code == 0 and "no rows of watkins, cbi, humbugdb" in whole.stderr
    assert "the data has no rows of watkins, cbi" in whole.stdout
    for path in data.glob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    nothing = run(data, tmp_path / "nothing")
    assert nothing.exit_code == 2 and "no rows of any component" in nothing.stderr


def test_a_system_that_hangs_is_stopped_and_what_it_answered_is_scored(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--suite", "esc50", "--batch-size", 2)
    result = run(data, out, "stuck", *options, "--time-limit", 0.2)
    assert result.exit_code == 2, result.stderr
    assert "3 calls in a row were not back in time (0.2 s each)" in result.stderr
    assert "the run is not finished" in result.stdout
    assert json.loads((out / "scores.json").read_text())["components"][0]["failed"] >= 3
    assert run(data, out, "stuck", *options, "--time-limit", 0.2).exit_code == 2  # it hangs still


def test_too_few_answers_and_raised_errors_are_errors_of_their_rows(data: Path, tmp_path: Path) -> None:
    for system, message in (
        ("too_few", "gave 0 answers to 1 questions"),
        ("fussy", "raised ValueError: not this"),
    ):
        result = run(data, tmp_path / system, system)
        assert result.exit_code == 1 and message in result.stderr, result.stderr
        scores = json.loads((tmp_path / system / "scores.json").read_text())["components"]
        failed = {of["dataset_name"]: of["failed"] for of in scores}
        assert failed == {"esc50": 1, "hiceas": 0, "captioning": 0}
