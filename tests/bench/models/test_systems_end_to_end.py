"""Every system through `naturelm bench run`, from its name on the command line to scores and a comparison.

Systems whose weights are not at hand are small random models of the same class, saved as the real ones are.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bench.models.http_server import Server, response, responses, serving
from bench.models.tiny_chat import save_flamingo, save_qwen
from bench.models.tiny_clap import save_clap
from bench.models.tiny_onnx import save_matrix
from bench.models.tiny_salmonn import save_salmonn
from bench.suite_folders import a_row, write_parquet
from model.official_folder import official_like_model, official_tensors, save_llm, save_official
from naturelm.bench.models.perch import WINDOW
from naturelm.bench.models.registry import SYSTEMS
from naturelm.cli.bench import app

BIRDS = ("Barn Swallow", "Ovenbird", "House Sparrow")
CHAT = ("--set", "max_new_tokens=3")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three birds, a detection, and a caption, of two lengths."""
    rows = [a_row(n, dataset_name="cbi", output=BIRDS[n % 3], file_name=f"{n}.wav") for n in range(6)]
    rows.append(a_row(6, dataset_name="enabirds", task="detection", output="None"))
    rows.append(a_row(7, dataset_name="captioning", task="captioning", output="A bird sings"))
    return write_parquet(tmp_path_factory.mktemp("suite") / "test.parquet", rows)


def perch(folder: Path) -> Path:
    (folder / "labels.csv").write_text("Hirundo rustica\nSeiurus aurocapilla\nPasser domesticus\n")
    rng = np.random.default_rng(0)
    save_matrix(folder / "perch.onnx", rng.standard_normal((WINDOW, 3)).astype(np.float32) / 50)
    return folder


def official(folder: Path) -> Path:
    llm = save_llm(folder / "llm")
    return save_official(folder / "checkpoint", llm, official_tensors(official_like_model()))


# How it is named, what makes its files, its settings, whether it writes captions, and whether it has scores.
SYSTEMS_ASKED: dict[str, tuple[str, Callable[[Path], Path] | None, tuple[str, ...], bool, bool]] = {
    "clap": ("clap={}", save_clap, (), False, True),
    "biolingual": ("biolingual={}", save_clap, (), False, True),
    "perch": ("perch={}", perch, (), False, True),
    "qwen2-audio": ("qwen2-audio={}", save_qwen, (*CHAT, "--set", "score_labels=true"), True, True),
    "audio-flamingo-3": ("audio-flamingo-3={}", save_flamingo, CHAT, True, False),
    "salmonn": ("salmonn={}", save_salmonn, (*CHAT, "--set", "num_beams=2"), True, False),
    "official": ("{}", official, ("--merging-alpha", "0.5"), True, True),
    "random": ("random", None, (), False, True),
    "most-frequent": ("most-frequent", None, (), True, True),
}


@pytest.fixture(scope="module")
def floor(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to compare with."""
    out = tmp_path_factory.mktemp("floor") / "floor"
    assert invoke("run", "-m", "random", "--data", data, "-o", out).exit_code == 1
    return out


def checked(out: Path, result: Result, captions: bool, scores: bool) -> dict[str, Any]:
    """The run's scores, after checking that all rows are there and those that it cannot answer are errors."""
    assert result.exit_code == (0 if captions else 1), result.stderr
    assert "Traceback" not in result.stderr
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(row["prediction"] or "error" in row or captions for row in rows)
    failed = {row["dataset_name"] for row in rows if "error" in row}
    assert failed == (set() if captions else {"captioning"})
    assert all(("scores" in row) == scores for row in rows if row["dataset_name"] == "cbi")
    found = {of["dataset_name"]: of for of in json.loads((out / "scores.json").read_text())["components"]}
    assert set(found) == {"cbi", "enabirds", "captioning"}
    names = {figure["name"] for figure in found["cbi"]["figures"]}
    assert {"Accuracy", "Exact Match", "Balanced Accuracy"} <= names
    assert ({"Accuracy (chosen)", "Top-5 Accuracy (scores)", "mAP (scores)"} <= names) == scores
    return found


@pytest.mark.parametrize("system", SYSTEMS_ASKED)
def test_from_its_name_to_scores_and_a_comparison(
    system: str, data: Path, floor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))
    written, save, settings, captions, scores = SYSTEMS_ASKED[system]
    if system == "perch":
        pytest.importorskip("onnxruntime")
    (tmp_path / "model").mkdir()
    name = written.format(save(tmp_path / "model") if save else "")
    out = tmp_path / "run"
    command = ("run", "-m", name, "--data", data, "-o", out, "--device", "cpu", "--batch-size", 4, *settings)
    checked(out, invoke(*command), captions, scores)
    about = json.loads((out / "run.json").read_text())
    assert about["system"]["name"] and about["finished"] and about["request"]["model"] == name
    assert about["system"]["revision"] or system in {"most-frequent"}
    if system == "official":
        assert "merging_alpha 0.5" in about["system"]["note"]
        assert about["request"]["settings"]["merging_alpha"] == 0.5
    compared = invoke("compare", floor, out)
    assert compared.exit_code == 0 and "run less floor" in compared.stdout
    assert "0.766 (NatureLM-audio" in compared.stdout


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(
        Server(lambda content: responses(*(response(of, "Ovenbird") for of in content["requests"])))
    ) as state:
        yield state


def test_a_server_from_its_url_to_scores(server: Server, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = checked(
        out, invoke("run", "-m", server.url, "--data", data, "-o", out), captions=True, scores=False
    )
    (accuracy,) = [of["value"] for of in found["cbi"]["figures"] if of["name"] == "Accuracy"]
    assert accuracy == pytest.approx(1 / 3)
    assert json.loads((out / "run.json").read_text())["system"]["revision"] == "7"


def test_merging_alpha_changes_what_an_official_checkpoint_says(data: Path, tmp_path: Path) -> None:
    folder = official(tmp_path)
    scores = []
    for alpha in (0.0, 0.5, 1.0):
        out = tmp_path / f"{alpha}"
        options = ("--suite", "cbi", "--limit", 1, "--answers", "choose", "--device", "cpu")
        command = ("run", "-m", folder, "--data", data, "-o", out, "--merging-alpha", alpha, *options)
        assert invoke(*command).exit_code == 0
        lines = (out / "predictions.jsonl").read_text().splitlines()
        scores.append([list(json.loads(line)["scores"].values()) for line in lines])
    assert np.abs(np.subtract(scores[0], scores[1])).max() > 1e-6
    assert np.abs(np.subtract(scores[1], scores[2])).max() > 1e-6


def test_every_system_that_goes_by_a_name_is_asked_here_or_has_files_of_its_own() -> None:
    # BirdNET's files are fetched, and the log-mel floor needs a corpus: they have tests of their own.
    assert set(SYSTEMS) - {"birdnet", "log-mel"} == set(SYSTEMS_ASKED) - {"official"}
