"""`naturelm experiments score`: help, files, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from corpus.corpora import a_pair, write_corpus
from naturelm.answer.engine import NatureLM
from naturelm.cli.experiments import app
from tiny import tiny_naturelm

BIRDS = ("wren", "robin")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(NatureLM, "from_pretrained", lambda *args, **kwargs: tiny_naturelm())
    rows = [
        a_pair(n, split, output=BIRDS[n % 2], labels=(BIRDS[n % 2],), dataset_name="birds")
        for split in ("train", "test")
        for n in range(4)
    ]
    silent = a_pair(
        9, "test", samples=np.zeros(8000, np.float32), task="detection", output="None", labels=(), taxa=()
    )
    return write_corpus(tmp_path / "corpus", [*rows, silent])


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom naturelm.cli.experiments import app\n"
        "try:\n    app(['score', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'pyarrow') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip().splitlines()[-1] == "[]", result.stderr
    assert "--corpus" in result.stdout and "--baseline" in result.stdout


def test_a_model_is_scored(corpus: Path, tmp_path: Path) -> None:
    result = run("tiny", "--corpus", corpus, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert rows == json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    birds = {row["metric"]: row for row in rows if row["component"] == "birds"}
    assert set(birds) == {"exact", "choice"} and birds["choice"]["n"] == 4
    assert birds["choice"]["chance"] == 0.5 and birds["choice"]["baseline"] is not None
    plain = run("tiny", "--corpus", corpus, "--out", tmp_path / "out", "--no-baseline", "--limit", 2)
    assert plain.exit_code == 0 and "| birds | choice |" in plain.stdout


def test_bad_input_is_one_line(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cases = [
        (["--corpus", tmp_path / "nowhere"], "no shards of the test split"),
        (["--corpus", corpus, "--component", "ants"], "no component ants"),
        (["--corpus", corpus, "--split", "exam"], "no split is called 'exam'"),
        (["--corpus", corpus, "--no-baseline", "--out", tmp_path / "file" / "x"], "cannot be written to"),
    ]
    for arguments, message in cases:
        result = run("tiny", "--out", tmp_path / "out", *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr.strip().splitlines()[-1]
        assert result.stderr.count("error:") == 1


def test_rows_that_fail_are_told(corpus: Path, tmp_path: Path) -> None:
    rows = [a_pair(0), a_pair(0, "test"), a_pair(1, "test", audio=b"nothing")]
    broken = write_corpus(tmp_path / "broken", rows)
    result = run("tiny", "--corpus", broken, "--out", tmp_path / "out", "--no-baseline")
    assert result.exit_code == 1
    assert "error: pair-test-0001: " in result.stderr
    nothing = write_corpus(tmp_path / "nothing", [a_pair(0), a_pair(1, "test", audio=b"nothing")])
    assert run("tiny", "--corpus", nothing, "--out", tmp_path / "out", "--no-baseline").exit_code == 2
