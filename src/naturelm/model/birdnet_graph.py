"""BirdNET 2.4 as a function: 3 s of sound to the 1,024 numbers before its last layer, and that layer.

The TensorFlow Lite file is read with `ai-edge-litert`. Its last operation is the fully connected layer that
scores the 6,522 labels. The graph's output is moved to that layer's input, so that the fast kernels stay in
use: they keep no tensor inside the graph that could be read afterwards.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from naturelm.errors import CheckpointError
from naturelm.model.birdnet_files import GRAPH_FILE, LABELS_FILE, birdnet_folder

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

BIRDNET_RATE = 48_000  # Hz
WINDOW_SAMPLES = 3 * BIRDNET_RATE
EMBEDDING_SIZE = 1024
NUM_LABELS = 6522
_REMEMBERED = 16_384  # windows whose embeddings are kept: 64 MB

FloatArray = NDArray[np.float32]


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
        """
        found = np.empty((len(windows), EMBEDDING_SIZE), dtype=np.float32)
        for row, window in enumerate(windows):
            found[row] = self._embed_one(np.ascontiguousarray(window, dtype=np.float32))
        return found

    def predict(self, windows: FloatArray) -> FloatArray:
        """(windows, 144,000) float32 at 48 kHz to (windows, labels) scores; the sigmoid of one is a confidence."""
        weight, bias = self.last_layer
        return self.embed(windows) @ weight.T + bias

    @cached_property
    def labels(self) -> tuple[BirdNetLabel, ...]:
        """The labels, in the order of the scores."""
        lines = (self._folder / LABELS_FILE).read_text(encoding="utf-8").splitlines()
        return tuple(BirdNetLabel(*line.split("_", 1)) for line in lines)

    @cached_property
    def last_layer(self) -> tuple[FloatArray, FloatArray]:
        """Weight (labels, 1,024), whose rows are the labels' directions among embeddings, and bias (labels,)."""
        model = self._model()
        graph = model.Subgraphs(0)
        _, weight, bias = _last_inputs(graph)
        values = [
            model.Buffers(graph.Tensors(index).Buffer()).DataAsNumpy().view(np.float32)
            for index in (weight, bias)
        ]
        return values[0].reshape(-1, EMBEDDING_SIZE).copy(), values[1].copy()

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
        # One window at a time: four at once are hardly faster, and another number of them costs a new plan.
        interpreter = self._interpreter
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window[None])
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]

    @cached_property
    def _interpreter(self) -> "Interpreter":
        model = self._model()
        graph = model.Subgraphs(0)
        graph.OutputsAsNumpy()[0] = _last_inputs(graph)[0]
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=bytes(model._tab.Bytes), num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    def _model(self) -> Any:
        """The file as a flatbuffer that can be written to in memory."""
        content = bytearray((self._folder / GRAPH_FILE).read_bytes())
        try:
            from ai_edge_litert.schema_py_generated import Model
        except ImportError as error:
            raise CheckpointError(
                "BirdNET is read with ai-edge-litert, which is not installed: pip install 'naturelm[birdnet]'"
            ) from error
        return Model.GetRootAs(content, 0)


def _last_inputs(graph: Any) -> tuple[int, int, int]:
    """Tensors that go into the last operation: embedding, weight, bias."""
    last = graph.Operators(graph.OperatorsLength() - 1)
    return last.Inputs(0), last.Inputs(1), last.Inputs(2)
