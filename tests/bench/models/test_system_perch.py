"""Perch: a small network of the same inputs and outputs, through the code that opens the real one."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.models.bench_items import an_item, same_in_any_order_and_batch, tone
from bench.models.tiny_onnx import save_matrix
from naturelm.bench.models.deciding import UnanswerableError
from naturelm.bench.models.perch import RATE, WINDOW, PerchOptions, PerchSystem
from naturelm.bench.models.registry import open_registered
from naturelm.errors import CheckpointError

LIST = ["Riparia riparia", "Dog", "Delphinapterus leucas", "Eleutherodactylus coqui"]
LABELS = ("Sand Martin", "Beluga, White Whale", "dog", "Ghost")
PITCHES = (500.0, 1500.0, 4000.0, 9000.0)

with_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="pip install 'naturelm[perch]'")
with_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="pip install tensorflow")


@pytest.fixture(autouse=True)
def no_birdnet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its names would be used where it has been fetched."""
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))


def ears() -> np.ndarray:
    """(window, labels): each label hears a tone of its own."""
    time = np.arange(WINDOW) / RATE
    return np.stack([np.sin(2 * np.pi * pitch * time) / 200 for pitch in PITCHES], 1).astype(np.float32)


def clip(*pitches: float, seconds: float = 5.0) -> np.ndarray:
    return np.sum(
        [tone(pitch, seconds, rate=RATE, seed=int(pitch)) for pitch in pitches], 0, dtype=np.float32
    )


@pytest.fixture(params=[None, 1, 3])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text("\n".join(["inat2024_fsd50k", *LIST]))
    return save_matrix(tmp_path / "perch.onnx", ears(), batch=request.param)


@with_onnx
def test_each_clip_is_named_in_any_batch_and_its_scores_are_the_matrix(model: Path) -> None:
    items = [an_item(n, clip(pitch), sample_rate=RATE, labels=LABELS) for n, pitch in enumerate(PITCHES)]
    items.append(an_item(4, clip(PITCHES[2], seconds=11.3), sample_rate=RATE, labels=LABELS))
    items.append(an_item(5, clip(PITCHES[1], seconds=1.0), sample_rate=RATE, labels=LABELS[::-1]))
    system = PerchSystem(model)
    answers = same_in_any_order_and_batch(system, items)
    assert [a.prediction for a in answers[:3]] == ["Sand Martin", "dog", "Beluga, White Whale"]
    assert [a.prediction for a in answers[4:]] == ["Beluga, White Whale", "dog"]
    logits = clip(PITCHES[0]).astype(np.float64) @ ears().astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    scores = answers[0].scores or {}
    expected = {"Sand Martin": shares[0], "Beluga, White Whale": shares[2], "dog": shares[1], "Ghost": 0.0}
    assert scores == pytest.approx(expected, abs=1e-4)
    assert "3 of 4 labels known, not Ghost" in system.info.note and "ONNX" in system.info.note


@with_onnx
def test_sigmoid_detects_several_and_hops_reach_the_end(model: Path) -> None:
    late = np.concatenate([np.zeros(WINDOW, np.float32), clip(PITCHES[0], PITCHES[2])])
    item = an_item(0, late, sample_rate=RATE, labels=(*LABELS, "None"), task="detection")
    quiet = an_item(1, np.zeros(9, np.float32), sample_rate=RATE, labels=(*LABELS, "None"), task="detection")
    found, none = PerchSystem(model, PerchOptions(activation="sigmoid", threshold=0.9)).answer([item, quiet])
    assert set(found.prediction.split(", ")) == {"Sand Martin", "Beluga", "White Whale"}
    assert none.prediction == "None" and none.scores == pytest.approx(
        {**dict.fromkeys(LABELS, 0.5), "Ghost": 0}
    )


@with_onnx
def test_what_it_cannot_answer_it_says(model: Path) -> None:
    with pytest.raises(UnanswerableError, match="calls: Perch has no name for any of its 2 labels"):
        PerchSystem(model).answer([an_item(labels=("adult", "juvenile"))])


@with_onnx
def test_list_of_labels_has_to_fit(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(LIST))
    assert open_registered(f"perch={model}") is not None
    assert PerchSystem(model, PerchOptions(labels=other)).info.note.endswith("4 labels")
    other.write_text("Dog\nCat")
    with pytest.raises(CheckpointError, match=r"other\.txt: 2 labels for a model of 4"):
        PerchSystem(model, PerchOptions(labels=other))
    other.write_bytes(b"\xff\xfe\0")
    with pytest.raises(CheckpointError, match="not a list of labels"):
        PerchSystem(model, PerchOptions(labels=other))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(CheckpointError, match=r"no assets/labels\.csv"):
        PerchSystem(model)


@with_onnx
def test_other_networks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("\n".join(LIST))
    short = save_matrix(tmp_path / "a.onnx", ears()[:100])
    with pytest.raises(CheckpointError, match="cannot hear windows of 5 s at 32 kHz"):
        PerchSystem(short)
    named = save_matrix(tmp_path / "b.onnx", ears(), outputs=("embedding", "logits"))
    with pytest.raises(CheckpointError, match="this has embedding, logits"):
        PerchSystem(named)
    (tmp_path / "c.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="not a readable ONNX file"):
        PerchSystem(tmp_path / "c.onnx")


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent", tmp_path / "absent.onnx"):
        with pytest.raises(CheckpointError, match="neither a SavedModel's folder"):
            PerchSystem(place)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perch.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CheckpointError, match=r"pip install 'naturelm\[perch\]'"):
        PerchSystem(tmp_path / "perch.onnx")
    (tmp_path / "saved_model.pb").touch()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CheckpointError, match="pip install tensorflow"):
        PerchSystem(tmp_path)


@pytest.mark.parametrize("fields", [{"hop_seconds": 6}, {"pool": "sum"}, {"activation": "relu"}])
def test_options_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at most 5|max or mean|softmax or sigmoid"):
        PerchOptions(**fields)  # type: ignore[arg-type]


class FakeTensor:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def numpy(self) -> np.ndarray:
        return self.values


class FakeSignature:
    """What TensorFlow gives of a SavedModel, as far as it is used."""

    def __init__(self, output: str = "label") -> None:
        self.structured_outputs = {"embedding": None, output: None}
        self.structured_input_signature = ((), {"inputs": None})

    def __call__(self, inputs: np.ndarray) -> dict[str, FakeTensor]:
        return {name: FakeTensor(inputs @ ears()) for name in self.structured_outputs}


@pytest.mark.parametrize("output", ["label", "logits"])
def test_saved_model_by_its_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "labels.csv").write_text("\n".join(LIST))
    (tmp_path / "saved_model.pb").touch()
    loaded = SimpleNamespace(signatures={"serving_default": FakeSignature(output)})
    stand_in = SimpleNamespace(
        saved_model=SimpleNamespace(load=lambda _: loaded), constant=lambda values: values
    )
    monkeypatch.setitem(sys.modules, "tensorflow", stand_in)
    if output == "logits":
        with pytest.raises(CheckpointError, match="this has embedding, logits"):
            PerchSystem(tmp_path)
        return
    system = PerchSystem(tmp_path)
    items = [an_item(n, clip(PITCHES[n]), sample_rate=RATE, labels=LABELS) for n in range(3)]
    answers = same_in_any_order_and_batch(system, items)
    assert [answer.prediction for answer in answers] == ["Sand Martin", "dog", "Beluga, White Whale"]
    assert "SavedModel" in system.info.note


@with_tensorflow
def test_real_saved_model(tmp_path: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(ears())

        @tf.function(input_signature=[tf.TensorSpec([None, WINDOW], tf.float32, name="inputs")])
        def call(self, inputs: object) -> dict[str, object]:
            return {"label": tf.matmul(inputs, self.weight), "embedding": inputs}

    module = Model()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.call})
    (tmp_path / "assets" / "labels.csv").write_text("\n".join(LIST))
    items = [an_item(n, clip(PITCHES[n]), sample_rate=RATE, labels=LABELS) for n in range(3)]
    answers = same_in_any_order_and_batch(PerchSystem(tmp_path), items)
    assert [answer.prediction for answer in answers] == ["Sand Martin", "dog", "Beluga, White Whale"]
