"""`naturelm train` and `naturelm export`: what they pass on, print and refuse, and what a fresh process loads."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from naturelm.cli import app
from naturelm.errors import NatureLMError
from naturelm.train.options import TrainError, TrainOptions, load_train_options

HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "pyarrow",
    "matplotlib",
    "yaml",
    "accelerate",
    "tensorboard",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@dataclass(frozen=True)
class Report:
    """As `naturelm.train.run.TrainReport`."""

    folder: Path
    steps: int = 1200
    state: str = "finished"
    reason: str = ""
    loss: float | None = 0.25


@dataclass
class Trainer:
    """In place of `naturelm.train.run`: notes what it is asked for."""

    report: Report | NatureLMError = Report(Path("runs/pond"))
    options: TrainOptions | None = None
    out: Path | None = None
    flags: dict[str, bool] | None = None

    def train(self, options: TrainOptions, out: Path, **flags: bool) -> Report:
        self.options, self.out, self.flags = options, out, flags
        if isinstance(self.report, NatureLMError):
            raise self.report
        return self.report


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Callable[..., Any]) -> None:
    made = ModuleType(module)
    made.__dict__.update(functions)
    monkeypatch.setitem(sys.modules, module, made)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    stand_in(monkeypatch, "naturelm.train.run", train=trainer.train)
    monkeypatch.delenv("RANK", raising=False)
    return trainer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("train", "--help"),
            ("CONFIG", "--out", "--corpus", "--set", "--resume", "--fresh", "report", "configs"),
        ),
        (("train", "report", "--help"), ("RUN", "--out")),
        (("export", "--help"), ("RUN", "--to", "naturelm|official", "--out")),
    ],
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom naturelm.cli import main\n"
        f"sys.argv = ['naturelm', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip().splitlines()[-1] == "[]", result.stderr
    for word in words:
        assert word in result.stdout


def test_without_the_packages_of_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    for arguments in (
        ("train", "mini-stage1", "--out", "run"),
        ("train", "report", "run"),
        ("train", "configs"),
        ("export", "run", "--to", "naturelm", "--out", "model"),
    ):
        code = (
            "import sys\nsys.modules['tensorboard'] = None\nfrom naturelm.cli import main\n"
            f"sys.argv = ['naturelm', *{arguments!r}]\nmain()\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert result.returncode == 2
        assert (
            result.stderr.strip() == "error: tensorboard: not installed; run: pip install 'naturelm[train]'"
        )


def test_training_gets_the_options_as_they_were_changed(trainer: Trainer, tmp_path: Path) -> None:
    changes = ("--set", "optimizer.beta2=0.99", "--set", "mixture.tasks={caption: 2}")
    result = run(
        "train", "--corpus", "ponds", "--corpus", "lakes", "mini-stage2", *changes, "-o", tmp_path / "run"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{Path('runs/pond')}: finished after 1,200 steps, loss 0.25\n"
    assert trainer.options == load_train_options(
        "mini-stage2", ["optimizer.beta2=0.99", "mixture.tasks={caption: 2}"], [Path("ponds"), Path("lakes")]
    )
    assert trainer.options is not None and trainer.options.optimizer.beta2 == 0.99
    assert trainer.out == tmp_path / "run"
    assert trainer.flags == {"resume": False, "fresh": False}


@pytest.mark.parametrize("flag", ["resume", "fresh"])
def test_flags_are_passed_on(trainer: Trainer, flag: str) -> None:
    assert run("train", "mini-stage1", "--out", "run", f"--{flag}").exit_code == 0
    assert trainer.flags == {"resume": False, "fresh": False, flag: True}


@pytest.mark.parametrize(
    ("report", "code", "error"),
    [
        (Report(Path("run"), 7, "stopped", "SIGTERM", 2.5), 130, "SIGTERM; go on with --resume"),
        (
            Report(Path("run"), 7, "failed", "step 8: the loss is not a number", math.nan),
            1,
            "step 8: the loss",
        ),
    ],
)
def test_a_run_that_was_stopped_says_why(trainer: Trainer, report: Report, code: int, error: str) -> None:
    trainer.report = report
    result = run("train", "mini-stage1", "--out", "run")
    assert result.exit_code == code
    assert f"run: {report.state} after 7 steps" in result.stdout
    assert result.stderr.startswith(f"error: {error}")


@pytest.mark.parametrize(("loss", "printed"), [(0.25, 0.25), (None, None), (math.nan, None)])
def test_a_report_as_json(trainer: Trainer, loss: float | None, printed: float | None) -> None:
    trainer.report = Report(Path("run"), loss=loss)
    result = run("train", "mini-stage1", "--out", "run", "--json")
    assert json.loads(result.stdout) == {
        "folder": "run",
        "steps": 1200,
        "state": "finished",
        "reason": "",
        "loss": printed,
    }


def test_of_several_processes_the_first_one_speaks(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, speaks in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert bool(run("train", "mini-stage1", "--out", "run").output) == speaks
        refused = run("train", "mini-stage1", "--out", "run", "--set", "steps=0")
        assert refused.exit_code == 2 and bool(refused.output) == speaks


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("mini-stage9",), "mini-stage9: no configuration has this name; there are: mini-birdnet"),
        (("gone.yaml",), "gone.yaml: no such file"),
        (("mini-stage1", "--set", "step=5"), "--set step=5: step: there is no such key"),
        (("mini-stage1", "--set", "steps"), "--set steps: expected KEY=VALUE"),
        (("mini-stage1", "--resume", "--fresh"), "--resume and --fresh: give one of the two"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(
    trainer: Trainer, arguments: tuple[str, ...], error: str
) -> None:
    result = run("train", *arguments, "--out", "run")
    assert result.exit_code == 2 and trainer.options is None
    assert result.stderr.startswith(f"error: {error}") and len(result.stderr.splitlines()) == 1


def test_a_run_that_is_refused_says_so(trainer: Trainer) -> None:
    trainer.report = TrainError("run: there is a run already; give --resume or --fresh")
    result = run("train", "mini-stage1", "--out", "run")
    assert result.exit_code == 2
    assert result.stderr == "error: run: there is a run already; give --resume or --fresh\n"


def test_configurations_are_listed_with_what_they_are() -> None:
    text = run("train", "configs").stdout.splitlines()
    assert [line.split()[0] for line in text] == [
        "mini-birdnet",
        "mini-stage1",
        "mini-stage2",
        "mini-stage2-without-speech-music",
        "official-stage1",
        "official-stage2",
        "official-stage2-without-speech-music",
    ]
    rows = [json.loads(line) for line in run("train", "configs", "--json").stdout.splitlines()]
    assert all(len(row["about"]) > 20 and Path(row["file"]).is_file() for row in rows)
    # A listed file can be trained as well as a listed name.
    assert load_train_options(rows[0]["file"]) == load_train_options(rows[0]["name"])


def test_a_report_is_written_into_the_run_or_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "naturelm.train.report", write_report=lambda run, out: out)
    assert run("train", "report", "here").stdout == f"wrote {Path('here/report.html')}\n"
    assert run("train", "report", "here", "-o", "page.html").stdout == "wrote page.html\n"


def test_a_model_is_exported_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str, Path, str | None]] = []

    def export_run(run: Path, to: str, out: Path, *, license: str | None) -> Path:
        asked.append((run, to, out, license))
        return out

    stand_in(monkeypatch, "naturelm.train.export", export_run=export_run)
    assert run("export", "here", "--to", "official", "--out", "there").stdout == "wrote there\n"
    assert run("export", "here", "--to", "naturelm", "--out", "b", "--license", "mit").exit_code == 0
    assert asked == [
        (Path("here"), "official", Path("there"), None),
        (Path("here"), "naturelm", Path("b"), "mit"),
    ]
    assert run("export", "here", "--to", "onnx", "--out", "there").exit_code == 2


def test_what_cannot_be_reported_or_exported_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TrainError("here: no run")

    stand_in(monkeypatch, "naturelm.train.report", write_report=refuse)
    stand_in(monkeypatch, "naturelm.train.export", export_run=refuse)
    for arguments in (("train", "report", "here"), ("export", "here", "--to", "naturelm", "-o", "there")):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (2, "error: here: no run\n")
