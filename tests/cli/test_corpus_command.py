"""`naturelm corpus`: what it prints and writes, exit codes, and what a fresh process loads."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from corpus.corpora import a_pair, chirps, write_corpus
from naturelm.cli import app

SHORT = np.full(1600, 0.1, np.float32)
HEAVY = ("torch", "numpy", "pyarrow", "matplotlib", "scipy")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", *map(str, arguments)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = [
        a_pair(n, samples=chirps(seed=n), task="caption" if n % 2 else "species-common") for n in range(6)
    ]
    return write_corpus(
        tmp_path_factory.mktemp("corpus"), [*train, a_pair(0, "test", samples=chirps(seed=99))]
    )


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "faulty", [a_pair(0), a_pair(1, audio=b"nothing")])


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom naturelm.cli import main\nsys.argv = ['naturelm', 'corpus', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip().splitlines()[-1] == "[]", result.stderr
    for command in ("build", "check", "stats", "sample", "show", "sources"):
        assert command in result.stdout


def test_without_the_packages_of_the_extra_it_says_what_to_install(corpus: Path) -> None:
    code = (
        "import sys\nsys.modules['mido'] = None\nfrom naturelm.cli import main\n"
        f"sys.argv = ['naturelm', 'corpus', 'sample', {str(corpus)!r}]\nmain()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == "error: mido: not installed; run: pip install 'naturelm[corpus]'"


def test_looking_at_a_corpus_loads_no_torch(corpus: Path) -> None:
    code = (
        "import sys\nfrom naturelm.cli import main\n"
        f"sys.argv = ['naturelm', 'corpus', 'stats', {str(corpus)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "False False", result.stderr


def test_stats_prints_tables_or_json_and_writes_files(corpus: Path, tmp_path: Path) -> None:
    text = run("stats", corpus, "--csv", tmp_path / "tables", "--plot", tmp_path / "plot.png")
    assert text.exit_code == 0, text.output
    assert "7 pairs, 7 clips" in text.stdout and "Turdus merula" in text.stdout
    assert (tmp_path / "plot.png").is_file() and (tmp_path / "tables" / "taxa.csv").is_file()
    whole = json.loads(run("stats", corpus, "--json").stdout)
    assert whole["total"]["pairs"] == 7
    test = json.loads(run("stats", corpus, "--json", "--split", "test").stdout)
    assert test["total"]["pairs"] == 1


def test_tables_leave_names_as_they_are(tmp_path: Path) -> None:
    rows = [
        a_pair(0, samples=SHORT, task="[red]x[/red]", output="[/b]\x1b[2J", options=("[bold]",), labels=())
    ]
    result = run("stats", write_corpus(tmp_path, rows, name="\x1b[1mname"))
    assert result.exit_code == 0, result.output
    assert "[red]x[/red]" in result.stdout and "[/b]" in result.stdout
    assert "\x1b" not in result.stdout


def test_sample_prints_and_writes(corpus: Path, tmp_path: Path) -> None:
    lines = run("sample", corpus, "-n", 3, "--task", "caption", "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 3 and {row["task"] for row in rows} == {"caption"}
    again = run("sample", corpus, "-n", 3, "--task", "caption", "-o", tmp_path)
    assert again.exit_code == 0
    assert {path.stem for path in tmp_path.glob("*.flac")} == {row["id"] for row in rows}
    assert all(row["id"] in again.stdout for row in rows)


def test_show_prints_a_pair_and_draws_it(corpus: Path, tmp_path: Path) -> None:
    result = run("show", corpus, "pair-train-0003", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "What is the common name" in result.stdout and "Recordist train 3" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"pair-train-0003.flac", "pair-train-0003.png"}
    by_row = json.loads(run("show", corpus, 0, "--split", "test", "--json").stdout)
    assert by_row["id"] == "pair-test-0000"


def test_sheets_of_all_tasks(corpus: Path, tmp_path: Path) -> None:
    result = run("show", corpus, "--sheet", "all", "-n", 2, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "caption.png"), str(tmp_path / "species-common.png")]
    assert len(list(tmp_path.glob("*/*.flac"))) == 4


def test_a_damaged_sound_is_told_and_exits_with_1(faulty: Path, tmp_path: Path) -> None:
    for arguments in (
        ["sample", faulty, "-o", tmp_path / "a"],
        ["show", faulty, "pair-train-0001", "-o", tmp_path / "b"],
        ["show", faulty, "--sheet", "all", "-o", tmp_path / "c"],
    ):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert "pair-train-0001" in line


def test_check_finds_nothing_in_a_clean_corpus_and_the_fault_in_a_faulty_one(
    corpus: Path, faulty: Path
) -> None:
    clean = run("check", corpus, "--workers", 1)
    assert clean.exit_code == 0, clean.output
    assert "near-duplicates" in clean.stdout and "test 1" in clean.stdout
    found = run("check", faulty, "--workers", 1, "--no-near-duplicates")
    assert found.exit_code == 1
    assert "near-duplicates" not in found.stdout and "pair-train-0001" in found.stdout
    report = json.loads(run("check", faulty, "--workers", 1, "--json").stdout)
    assert report["ok"] is False and report["rows"] == {"train": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["stats", "--split", "all"],
        ["stats", "--plot", "plot.txt"],
        ["sample", "--task", "no-task"],
        ["sample", "--split", "tests"],
        ["show"],
        ["show", "pair-train-0000", "--sheet", "caption"],
        ["show", "no-pair"],
        ["show", "999"],
        ["show", "--sheet", "caption"],
        ["show", "--sheet", "no-task", "-o", "out"],
        ["show", "--sheet", "caption", "-n", "1000", "-o", "out"],
        ["check", "--taxonomy", "no-file.csv"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    corpus: Path, tmp_path: Path, arguments: list[str]
) -> None:
    command, *rest = arguments
    folder = tmp_path if arguments == ["stats"] else corpus
    result = run(command, folder, *(tmp_path / "out" if argument == "out" else argument for argument in rest))
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")


def test_sources_are_listed_with_what_they_are() -> None:
    rows = [json.loads(line) for line in run("sources", "--json").stdout.splitlines()]
    about = {row["name"]: row["about"] for row in rows}
    assert "Piczak" in about["esc50"] and all(about.values())
    assert "esc50" in run("sources").stdout


def test_a_build_tells_what_it_made_and_what_it_could_not_use(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / "sounds" / "rain" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, chirps(seed=number), 16_000)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: rain\nsources:\n- source: folder\n  folder: {tmp_path / 'sounds'}\n"
        "splits: {test_share: 0, validation_share: 0}\nshares:\n- task: environment\n  pairs: 3\n",
        encoding="utf-8",
    )
    built = run("build", config, "-o", tmp_path / "out", "--workers", 1)
    assert built.exit_code == 0, built.output
    assert "3 pairs" in built.stdout and "environment" in built.stdout
    assert run("check", tmp_path / "out", "--workers", 1).exit_code == 0
    refused = run("build", config, "-o", tmp_path / "out", "--workers", 1, "--seed", 5)
    assert refused.exit_code == 2 and len(refused.stderr.splitlines()) == 1
    (tmp_path / "sounds" / "rain" / "damaged.wav").write_text("no sound at all")
    some = run("build", config, "-o", tmp_path / "other", "--workers", 1, "--seed", 5)
    assert some.exit_code == 1, some.output
    assert "1 recordings could not be used: see failures.csv" in some.stderr


def test_a_build_without_a_file_of_options_is_refused(tmp_path: Path) -> None:
    result = run("build", tmp_path / "no.yaml", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "no.yaml" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="needs a named pipe to stop the command at a known place"
)
def test_a_build_that_is_stopped_says_how_to_go_on(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    command = [sys.executable, "-m", "naturelm", "corpus", "build", str(config), "-o", str(tmp_path / "out")]
    # Opening the pipe waits until the command has opened its other end: it is then at work.
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        config.open("w"),
    ):
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "stopped; the same command goes on where it stopped\n"
