"""BirdNET 2.4 as a function: 3 s of sound to the 1,024 numbers before its last layer, and that layer.

The parts of the TensorFlow Lite file (see `naturelm.model.birdnet_parts`) run in `ai-edge-litert`, all on one
thread. The last layer is a part of its own: the fast kernels keep no tensor inside a graph to be read afterwards.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from naturelm.model.birdnet_files import GRAPH_FILE, LABELS_FILE, birdnet_folder
from naturelm.model.birdnet_parts import FloatArray, Parts, take_apart

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

BIRDNET_RATE = 48_000  # Hz
WINDOW_SAMPLES = 3 * BIRDNET_RATE
EMBEDDING_SIZE = 1024
NUM_LABELS = 6522
_REMEMBERED = 16_384  # windows whose embeddings are kept: 64 MB
_SCORED_AT_ONCE = 4  # embeddings that share one reading of the last layer's 27 MB


@dataclass(frozen=True)
class BirdNetLabel:
    """What BirdNET can say. A sound that is no species, or has no common name, has one name twice."""

    scientific: str
    common: str


class BirdNetGraph:
    """The network, opened on first use.

    Safe to share between threads; to another process it goes without the interpreter, which is opened there
    anew. The embeddings of the last 16,384 windows are remembered, since training hears a clip many times.

    folder: of the files; the cache's when None. Every method raises CheckpointError where they, or the
    package that reads them, are missing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given_folder = folder
        self._remembered: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return BirdNetGraph, (self._given_folder,)

    def embed(self, windows: FloatArray) -> FloatArray:
        """(windows, 144,000) float32 at 48 kHz to (windows, 1,024) embeddings, none below 0.

        BirdNET scales each window to its own loudest sample, so that loudness does not matter.
        Raises ValueError for windows of another length.
        """
        if any(len(window) != WINDOW_SAMPLES for window in windows):
            raise ValueError(f"BirdNET hears windows of {WINDOW_SAMPLES} samples, nothing else")
        found = np.empty((len(windows), EMBEDDING_SIZE), dtype=np.float32)
        for row, window in enumerate(windows):
            found[row] = self._embed_one(np.ascontiguousarray(window, dtype=np.float32))
        return found

    def predict(self, windows: FloatArray) -> FloatArray:
        """(windows, 144,000) float32 at 48 kHz to (windows, labels) scores; the sigmoid of one is a confidence."""
        return self.scores(self.embed(windows))

    def scores(self, embeddings: FloatArray) -> FloatArray:
        """(windows, 1,024) embeddings to (windows, labels) scores, each the same whatever is beside it.

        On one thread: for a product of this size numpy would wake a thread a core, and they wait busily
        for the next one.
        """
        found = np.empty((len(embeddings), NUM_LABELS), dtype=np.float32)
        with self._lock:
            for first in range(0, len(embeddings), _SCORED_AT_ONCE):
                rows = embeddings[first : first + _SCORED_AT_ONCE]
                filled = np.zeros((_SCORED_AT_ONCE, EMBEDDING_SIZE), dtype=np.float32)
                filled[: len(rows)] = rows
                found[first : first + len(rows)] = _run(self._scorer, filled)[: len(rows)]
        return found

    @cached_property
    def labels(self) -> tuple[BirdNetLabel, ...]:
        """The labels, in the order of the scores."""
        lines = (self._folder / LABELS_FILE).read_text(encoding="utf-8").splitlines()
        return tuple(BirdNetLabel(*line.split("_", 1)) for line in lines)

    @property
    def last_layer(self) -> tuple[FloatArray, FloatArray]:
        """Weight (labels, 1,024), whose rows are the labels' directions among embeddings, and bias (labels,)."""
        return self._parts.weight, self._parts.bias

    @property
    def _folder(self) -> Path:
        return self._given_folder or birdnet_folder()

    def _embed_one(self, window: FloatArray) -> FloatArray:
        key = hashlib.blake2b(window.tobytes(), digest_size=16).digest()
        with self._lock:
            if key not in self._remembered:
                self._remembered[key] = self._run(window)
                if len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)
            self._remembered.move_to_end(key)
            return self._remembered[key]

    def _run(self, window: FloatArray) -> FloatArray:
        # One window at a time: eight at once are no faster, and another number of them costs a new plan.
        scaled = self._parts.scaling(window)
        return _run(self._network, *(transform(scaled)[None] for transform in self._parts.transforms))[0]

    @cached_property
    def _parts(self) -> Parts:
        return take_apart((self._folder / GRAPH_FILE).read_bytes())

    @cached_property
    def _network(self) -> "Interpreter":
        return _opened(self._parts.network)

    @cached_property
    def _scorer(self) -> "Interpreter":
        return _opened(self._parts.last_layer, _SCORED_AT_ONCE)


def _opened(content: bytes, rows: int = 1) -> "Interpreter":
    """A TensorFlow Lite file, ready for so many rows of each input at once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    for given in interpreter.get_input_details():
        interpreter.resize_tensor_input(given["index"], (rows, *given["shape"][1:]))
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: "Interpreter", *inputs: FloatArray) -> FloatArray:
    for details, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], values)
    interpreter.invoke()
    found: FloatArray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found
