"""`naturelm scan` with a tiny NatureLM and, where it is fetched, with BirdNET: options, exit codes, what is printed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest
from scanning import broken_files, contents, write_recording
from typer.testing import CliRunner, Result

from naturelm.cli import app
from naturelm.model.birdnet_files import birdnet_range_ready, birdnet_ready
from tiny import save_tiny_naturelm

OWL = Path(__file__).parents[2] / "examples" / "recordings" / "owl.flac"

fetched = pytest.mark.skipif(
    not (birdnet_ready() and birdnet_range_ready()) or find_spec("ai_edge_litert") is None,
    reason="BirdNET is not here: naturelm models fetch birdnet, and pip install 'naturelm[birdnet]'",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model; 5 s windows."""
    return save_tiny_naturelm(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    write_recording(tmp_path / "in" / "a.wav", 11)
    write_recording(tmp_path / "in" / "b.WAV", 4, seed=1)
    return tmp_path / "in"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["scan", *(str(a) for a in arguments)])


def test_labels_and_questions_over_one_hearing(model: Path, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--ask", "How many?", "--preset", "caption", "--max-new-tokens", 4]
    result = run(
        recordings, "-o", out, "-m", model, "--detect", "Dog,Turdus merula_Blackbird", *asked, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["windows"] == 4
    table = pandas.read_parquet(out / "scores.parquet")
    labels = table[table["kind"] == "label"].groupby(["recording", "window"], observed=True)["score"]
    assert len(labels) == 4 and labels.sum().round(5).eq(1).all()  # with `None of these`
    answers = table[table["kind"] == "answer"]
    assert answers["question"].astype(str).value_counts().tolist() == [4, 4]
    assert table["end"].max() == 11

    result = run("export", out, "--min-confidence", 0, "--to", "csv", "--to", "raven", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["recordings"] == 2
    with (out / "events.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["Scientific name"] for row in found if row["Label"] == "Blackbird"} == {"Turdus merula"}
    assert not any(row["Label"] == "None of these" for row in found)
    assert (out / "raven" / "b.WAV.selections.txt").is_file()


def test_scores_are_those_of_asking(model: Path, recordings: Path, tmp_path: Path) -> None:
    from naturelm import NatureLM
    from naturelm.scan.options import DETECTION_QUESTION

    run(recordings, "-o", tmp_path / "out", "-m", model, "--detect", "Dog,Cat")
    table = pandas.read_parquet(tmp_path / "out" / "scores.parquet")
    loaded = NatureLM.from_pretrained(model, device="cpu")
    answer = loaded.ask(
        recordings / "a.wav", DETECTION_QUESTION, choices=["Dog", "Cat"], none_of_these=True, start=5, end=10
    )
    rows = table[(table["start"] == 5) & table["recording"].str.endswith("a.wav")]
    scores = dict(zip(rows["label"], rows["score"], strict=True))
    assert scores == pytest.approx({c.label: c.probability for c in answer.choices}, abs=1e-4)


def test_a_bad_file_gives_1_and_nothing_but_bad_ones_2(model: Path, recordings: Path, tmp_path: Path) -> None:
    (recordings / "bad.wav").write_text("no sound " * 99)
    result = run(recordings, "-o", tmp_path / "out", "-m", model, "--detect", "Dog")
    assert result.exit_code == 1 and "bad.wav" in result.stderr
    assert "bad.wav" in (tmp_path / "out" / "failures.csv").read_text()
    assert run(recordings / "bad.wav", "-o", tmp_path / "o2", "-m", model, "--detect", "Dog").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--detect", ""],
        ["--detect", "Dog,Dog"],
        ["--labels", "absent.txt"],
        ["--ask", " "],
        ["--detect", "Dog", "--window", "-1"],
        ["--detect", "Dog", "--window", "1e9"],
        ["--detect", "Dog", "--end", "0"],
        ["--detect", "Dog", "--gate", "5"],
        ["--detect", "Dog", "--lat", "52"],
        ["--detect", "Dog", "--shard", "5/3"],
        ["--detect", "Dog", "--min-confidence", "2"],
        ["--detect", "Dog", "--time-zone", "Nowhere"],
        ["--ask", "What?", "-m", "birdnet"],
    ],
)
def test_bad_options_are_one_line_and_exit_2(
    model: Path, recordings: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = run(recordings, "-o", tmp_path / "out", "-m", model, *arguments)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr


def test_a_changed_parameter_says_so(model: Path, recordings: Path, tmp_path: Path) -> None:
    arguments = (recordings, "-o", tmp_path / "out", "-m", model, "--detect", "Dog")
    assert run(*arguments).exit_code == 0
    result = run(*arguments, "--hop", 2)
    assert result.exit_code == 2 and "hop was null, is 2.0" in result.stderr
    assert run(*arguments, "--hop", 2, "--fresh").exit_code == 0


@fetched
def test_birdnet_finds_the_owl_where_owls_live(recordings: Path, tmp_path: Path) -> None:
    result = run(OWL, "-o", tmp_path / "out", "-m", "birdnet", "--lat", 52.5, "--lon", 13.4, "--week", 10)
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "events.csv").open(newline="") as file:
        found = [row["Scientific name"] for row in csv.DictReader(file)]
    assert found == ["Strix aluco"]
    far = run(OWL, "-o", tmp_path / "far", "-m", "birdnet", "--lat", -75, "--lon", 0, "--detect", "Tawny Owl")
    assert far.exit_code == 2 and "none lives" in far.stderr
    unknown = run(OWL, "-o", tmp_path / "unknown", "-m", "birdnet", "--detect", "Gryphon")
    assert unknown.exit_code == 2 and "Gryphon" in unknown.stderr


def test_fresh_process_shows_help_without_loading_anything() -> None:
    code = (
        "import sys\nfrom naturelm.cli import main\nsys.argv = ['naturelm', 'scan', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'soundfile') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip().splitlines()[-1] == "[]", result.stderr
    assert "--detect" in result.stdout and "naturelm scan export" in result.stdout


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "naturelm", "scan", *(str(a) for a in arguments)]


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_command_killed_anywhere_and_run_again_ends_in_the_same_bytes(
    model: Path, tmp_path: Path
) -> None:
    for number in range(12):
        write_recording(tmp_path / "in" / f"{number}.wav", 40 + number, seed=number)
    asked = ("-m", model, "--detect", "Dog,Cat", "--ask", "How many?", "--max-new-tokens", 4)
    tables = ("--to", "csv", "--to", "raven", "--to", "audacity", "--to", "jsonl", "--merge", "--clips", 2)
    began = time.monotonic()
    subprocess.run(command(tmp_path / "in", "-o", tmp_path / "whole", *asked, *tables), check=True)
    whole = time.monotonic() - began
    rng = random.Random(int(began))
    for _ in range(5):  # anywhere: while it loads, scans or writes its tables
        child = subprocess.Popen(command(tmp_path / "in", "-o", tmp_path / "out", *asked, *tables))
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        child.kill()
        child.wait()
    subprocess.run(command(tmp_path / "in", "-o", tmp_path / "out", *asked, *tables), check=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_thousand_files_of_which_forty_are_broken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sound = write_recording(tmp_path / "x.wav", 1.0).read_bytes()
    for number in range(960):
        (tmp_path / "in" / f"good{number}.wav").write_bytes(sound)
    broken_files(tmp_path / "in", 40)
    done = subprocess.run(
        command(tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--detect", "Dog", "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["done"], report["failed"], report["complete"]) == (960, 40, True)
    assert len(pandas.read_csv(tmp_path / "out" / "failures.csv")) == 40
    assert len(pandas.read_csv(tmp_path / "out" / "failures.csv")["File"].unique()) == 40
    errors = [
        line for line in done.stderr.splitlines() if line.startswith("error:")
    ]  # libmpg123 has its say, too
    assert len(errors) == 21 and "and 20 more" in errors[-1]


def test_what_a_damaged_recording_gave_gives_1(model: Path, tmp_path: Path) -> None:
    sound = write_recording(tmp_path / "x.wav", 20).read_bytes()
    (tmp_path / "x.wav").write_bytes(sound[: len(sound) // 2])
    result = run(tmp_path / "x.wav", "-o", tmp_path / "out", "-m", model, "--detect", "Dog")
    assert result.exit_code == 1 and "truncated" in result.stderr
    assert len(pandas.read_csv(tmp_path / "out" / "failures.csv")) == 1


@pytest.mark.slow
def test_ctrl_c_finishes_the_recording_and_exits_with_130(model: Path, tmp_path: Path) -> None:
    for number in range(60):
        write_recording(tmp_path / "in" / f"{number}.wav", 60, seed=number)
    out = tmp_path / "out"
    arguments = (tmp_path / "in", "-o", out, "-m", model, "--detect", "Dog")
    child = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    while not list(out.glob("journal/done/*.parquet")):
        assert child.poll() is None
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=300)
    assert child.returncode == 130 and "same command goes on" in said
    assert run(*arguments).exit_code == 0
