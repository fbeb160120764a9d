"""Perch 2 as a system of the benchmark: some 15,000 kinds of animals and everyday sounds, from a downloaded model.

Perch 2 (van Merriënboer et al. 2025, arXiv:2508.04665) hears 5 s at 32 kHz and gives a logit of each label. It is
published as a TensorFlow SavedModel, and others have turned that into ONNX; either is opened here, with the list of
labels that lies beside it. TensorFlow and onnxruntime are imported when one of them is needed.

A SavedModel and an ONNX file are programs for those two: open none from strangers.

Its labels are scientific names. Those of data sets are mostly common ones, for which a taxonomy is needed: the
package's own is small, so BirdNET's list of names is used where BirdNET has been fetched, and any taxonomy file.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.closed_set import ClosedSets
from naturelm.bench.models.deciding import one_line
from naturelm.bench.models.names import SystemLabel, names_from
from naturelm.bench.models.sounds import Pool, by_clip, check_pool, heard, pooled, sigmoid, windows
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.taxonomy import Taxon, Taxonomy
from naturelm.errors import CheckpointError

RATE = 32_000  # Hz
WINDOW = 5 * RATE
_INPUT, _OUTPUT, _SIGNATURE = "inputs", "label", "serving_default"
_LABEL_FILES = ("assets/labels.csv", "labels.csv", "labels.txt")
_MOST_BYTES = 16 * 2**20  # of a list of labels
_AT_ONCE = 16
"""Windows that are heard together: 10 MB of sound."""

Network = Callable[[FloatArray], FloatArray]
"""(windows, 160,000) float32 at 32 kHz to (windows, labels) logits."""


@dataclass(frozen=True)
class PerchOptions:
    """How Perch is asked."""

    labels: Path | None = None
    """Its list of labels; looked for beside the model when None."""
    hop_seconds: float = 2.5
    """From the start of a window to that of the next; at most 5."""
    pool: Pool = "max"
    """Over the windows of a clip."""
    activation: str = "softmax"
    """`softmax` over all of its labels, as it was trained; or the `sigmoid` of each."""
    threshold: float = 0.1
    """Score from which a label is detected."""
    taxonomy: Path | None = None
    """More names for labels (see `Taxonomy.open`)."""

    def __post_init__(self) -> None:
        check_pool(self.pool)
        if not 0 < self.hop_seconds <= 5:
            raise ValueError(f"hop_seconds is above 0 and at most 5, not {self.hop_seconds}")
        if self.activation not in ("softmax", "sigmoid"):
            raise ValueError(f"activation is softmax or sigmoid, not {self.activation!r}")


class PerchSystem:
    """Perch 2. `info.note` says how many labels of each data set it had a name for, so far."""

    def __init__(self, path: Path | str, options: PerchOptions | None = None) -> None:
        """path: a SavedModel's folder, a folder with one ONNX file, or an ONNX file.

        Raises CheckpointError for a model or a list of labels that is not there, cannot be read, or does not fit the
        other; it names the package to install where one is missing.
        """
        self._options = options or PerchOptions()
        place = Path(path)
        self._network, self._how = _opened(place)
        with np.errstate(all="ignore"):
            logits = _logits(self._network, np.zeros((1, WINDOW), np.float32), place)
        file = self._options.labels or _label_file(place)
        self._labels = _read_labels(file, logits.shape[1])
        self._place = place
        labels = [SystemLabel(label, label) for label in self._labels]
        self._sets = ClosedSets("Perch", labels, _names(self._options.taxonomy))

    @property
    def info(self) -> ModelInfo:
        """What it is, and what it could not be asked so far."""
        options = self._options
        note = (
            f"{self._how}; {options.activation}, {options.pool} over windows of 5 s, {options.hop_seconds:g} s apart; "
            f"detection from {options.threshold:g}; {len(self._labels)} labels"
        )
        return ModelInfo("Perch 2", self._place.name, "Apache-2.0", "; ".join((note, *self._sets.notes())))

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Scores in [0, 1] of every label but `None`; 0 where Perch has no name for it.

        Raises UnanswerableError for a data set of whose labels it knows none, and AudioError for a false clip.
        """
        self._sets.check(batch)
        hop = max(1, round(self._options.hop_seconds * RATE))
        cut = (windows(heard(item, RATE), WINDOW, hop) for item in batch)
        scores = np.stack([pooled(of, self._options.pool) for of in by_clip(cut, self._score, _AT_ONCE)])
        return self._sets.answer(batch, scores, self._options.threshold)

    def _score(self, cut: Sequence[FloatArray]) -> FloatArray:
        """(windows, labels) in [0, 1]."""
        logits = _logits(self._network, np.stack(cut), self._place)
        if self._options.activation == "sigmoid":
            return sigmoid(logits)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)


def _opened(place: Path) -> tuple[Network, str]:
    if (place / "saved_model.pb").is_file():
        return _saved_model(place), "SavedModel"
    files = [place] if place.is_file() else sorted(place.glob("*.onnx"))
    if len(files) != 1 or files[0].suffix != ".onnx":
        raise CheckpointError(
            f"{place}: neither a SavedModel's folder (saved_model.pb) nor one .onnx file; give one of the two"
        )
    return _onnx(files[0]), "ONNX"


def _onnx(file: Path) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(
            f"{file}: ONNX files are read with onnxruntime, which is not installed: pip install 'naturelm[perch]'"
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each fault
        raise CheckpointError(
            f"{file}: not a readable ONNX file ({one_line(error)}); download it again"
        ) from error
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    name = _OUTPUT if _OUTPUT in outputs else outputs[0]
    if len(inputs) != 1 or (name != _OUTPUT and len(outputs) > 1):
        raise CheckpointError(
            f"{file}: not Perch, which has one input and an output {_OUTPUT!r}; this has {', '.join(outputs)}"
        )
    # Some were exported for a fixed number of windows.
    size = inputs[0].shape[0] if inputs[0].shape and isinstance(inputs[0].shape[0], int) else None

    def run(cut: FloatArray) -> FloatArray:
        at_once = size or len(cut)
        found = []
        for start in range(0, len(cut), at_once):
            some = cut[start : start + at_once]
            padded = np.pad(some, ((0, at_once - len(some)), (0, 0)))
            found.append(session.run([name], {inputs[0].name: padded})[0][: len(some)])
        return np.concatenate(found)

    return run


def _saved_model(folder: Path) -> Network:
    try:
        import tensorflow
    except ImportError as error:
        raise CheckpointError(
            f"{folder}: a SavedModel is read with tensorflow, which is not installed: pip install tensorflow; "
            "or give an ONNX file of the same model"
        ) from error
    try:
        model = tensorflow.saved_model.load(str(folder))
        signature = model.signatures[_SIGNATURE]
    except Exception as error:
        raise CheckpointError(
            f"{folder}: not a readable SavedModel ({one_line(error)}); download it again"
        ) from error
    if _OUTPUT not in signature.structured_outputs:
        names = ", ".join(sorted(signature.structured_outputs))
        raise CheckpointError(f"{folder}: not Perch 2, which has an output {_OUTPUT!r}; this has {names}")
    accepted = list(signature.structured_input_signature[1])
    name = _INPUT if _INPUT in accepted else accepted[0]

    def run(cut: FloatArray) -> FloatArray:
        return np.asarray(signature(**{name: tensorflow.constant(cut)})[_OUTPUT].numpy())

    run.model = model  # type: ignore[attr-defined]  # a signature does not keep its variables alive
    return run


def _logits(network: Network, cut: FloatArray, place: Path) -> FloatArray:
    try:
        logits: Any = np.asarray(network(cut), dtype=np.float32)
    except Exception as error:
        raise CheckpointError(
            f"{place}: cannot hear windows of 5 s at 32 kHz ({one_line(error)}); see that it is Perch 2"
        ) from error
    if logits.ndim != 2 or len(logits) != len(cut):
        raise CheckpointError(
            f"{place}: gave an array of shape {logits.shape} for {len(cut)} windows; not Perch 2"
        )
    return logits


def _label_file(place: Path) -> Path:
    folder = place if place.is_dir() else place.parent
    for name in _LABEL_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: no {_LABEL_FILES[0]} and no {_LABEL_FILES[1]}; say where the list is with labels"
    )


def _read_labels(file: Path, count: int) -> list[str]:
    """The labels of so many outputs, one a line, perhaps after a heading."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise CheckpointError(
                f"{file}: more than {_MOST_BYTES} bytes, so no list of labels; give the right file"
            )
        with file.open(newline="", encoding="utf-8-sig") as stream:
            labels = [row[0].strip() for row in csv.reader(stream) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(
            f"{file}: not a list of labels ({one_line(error)}); give the right file"
        ) from error
    if len(labels) == count + 1:
        labels = labels[1:]
    if len(labels) != count:
        raise CheckpointError(
            f"{file}: {len(labels)} labels for a model of {count}; give the list that belongs to it"
        )
    return labels


def _names(path: Path | None) -> Taxonomy:
    from naturelm.model.birdnet_files import LABELS_FILE, birdnet_folder, birdnet_ready

    names = names_from(path)
    if not birdnet_ready():
        return names
    lines = (birdnet_folder() / LABELS_FILE).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("_", 1) for line in lines if line.count("_") == 1)
    birds = Taxonomy.from_taxa(
        Taxon(scientific, common) for scientific, common in pairs if scientific != common
    )
    return names.merged_with(birds)
