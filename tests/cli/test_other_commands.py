"""`naturelm models`, `naturelm info`, and what a fresh process loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from naturelm.cli import app
from tiny import noise

HEAVY = ("torch", "transformers", "peft", "soundfile", "numpy", "pyarrow", "fastapi", "gradio")


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ((), ("ask", "models", "info", "serve")),
        (("ask",), ("--question",)),
        (("serve",), ("--web", "--api-key-file")),
        (("train",), ("report",)),
        (("bench", "run"), ("--suite",)),
        (("corpus",), ("build",)),
        (("experiments",), ("score",)),
        (("search",), ("--like",)),
    ],
)
def test_help_loads_nothing_that_takes_long(command: tuple[str, ...], named: tuple[str, ...]) -> None:
    """So it is there in a third of a second."""
    code = (
        f"import sys\nfrom naturelm.cli import main\nsys.argv = ['naturelm', *{command!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = fresh("-c", code)
    assert result.stderr.strip().splitlines()[-1] == "[]", result.stderr
    for word in named:
        assert word in result.stdout


def test_import_loads_nothing_heavy() -> None:
    result = fresh("-c", f"import sys, naturelm; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_public_names_resolve() -> None:
    import naturelm

    for name in naturelm.__all__:
        assert getattr(naturelm, name) is not None
    with pytest.raises(AttributeError):
        naturelm.no_such_name  # noqa: B018


def test_fresh_process_runs_as_a_module_and_says_its_version() -> None:
    from naturelm import __version__

    result = fresh("-m", "naturelm", "--version")
    assert result.returncode == 0 and result.stdout.strip() == f"naturelm {__version__}"


def test_fresh_process_fails_in_one_line(tmp_path: Path) -> None:
    result = fresh("-m", "naturelm", "info", str(tmp_path / "missing.wav"))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "missing.wav" in result.stderr


def test_info_reads_headers_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    good = tmp_path / "good.flac"
    soundfile.write(good, noise(1.5, rate=48_000), 48_000)
    result = CliRunner().invoke(app, ["info", str(tmp_path), str(good), "--json"])
    assert result.exit_code == 1
    failed, found = (json.loads(line) for line in result.stdout.splitlines())
    assert failed["recording"] == str(tmp_path) and "directory" in failed["error"]
    assert found["recording"] == str(good)
    assert (found["sample_rate"], found["channels"], found["duration"]) == (48_000, 1, 1.5)
    text = CliRunner().invoke(app, ["info", str(good)])
    assert text.exit_code == 0 and "48000 Hz, 1 channel, 1.500 s" in text.stdout


def test_models_lists_what_there_is() -> None:
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    names = {json.loads(line)["name"] for line in result.stdout.splitlines()}
    assert {"mini", "smollm2-135m-instruct", "EarthSpeciesProject/NatureLM-audio"} <= names
    assert "mini" in CliRunner().invoke(app, ["models"]).stdout
