"""BirdNET's TensorFlow Lite graph taken apart: scaling and transforms, the network behind them, the last layer.

As published, nearly half of the time goes into the two spectrograms of a window: blocks of samples are gathered, and
the transform makes its sine tables anew for each window. So they are made here, from the constants of the file
and as it rounds: the window in 32 bits, the transform in 64. What follows stays the file's own, from the mel
bands on. Of each transform the graph keeps the real part alone, not the magnitude, and so does this.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from naturelm.errors import CheckpointError

FloatArray = NDArray[np.float32]

_IDENTIFIER = b"TFL3"  # of a TensorFlow Lite file
_FRAMES_AT_ONCE = 64  # few enough for the processor's caches


@dataclass(frozen=True)
class Scaling:
    """Each window to its own range: (x - least) / (most - least + floor), less `shift`, times `factor`."""

    floor: np.float32
    shift: np.float32
    factor: np.float32

    def __call__(self, window: FloatArray) -> FloatArray:
        """(samples,) to (samples,)."""
        raised = window - window.min()
        raised /= raised.max() + self.floor
        raised -= self.shift
        raised *= self.factor
        return raised


@dataclass(frozen=True)
class Transform:
    """Frames, `step` samples apart, and the real part of their Fourier transform in those `bins` that are heard.

    window: (size of a frame,), the function that a frame is multiplied by.
    """

    window: FloatArray
    step: int
    bins: slice

    def __call__(self, samples: FloatArray) -> FloatArray:
        """(samples,) to (frames, bins), of the frames that lie wholly in them."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, len(self.window))[:: self.step]
        found = np.empty((len(frames), self.bins.stop - self.bins.start), dtype=np.float32)
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            part = slice(first, first + _FRAMES_AT_ONCE)
            windowed = (frames[part] * self.window).astype(np.float64)
            found[part] = np.fft.rfft(windowed).real[:, self.bins]
        return found


@dataclass(frozen=True)
class Parts:
    """What a window goes through.

    network: a TensorFlow Lite file. It takes what each transform gives, (1, frames, bins), in order, to the
    embedding, (1, numbers). last_layer: another, the embedding to scores, (1, labels).
    weight, bias: of the last layer, (labels, numbers) and (labels,).
    """

    scaling: Scaling
    transforms: tuple[Transform, ...]
    network: bytes
    last_layer: bytes
    weight: FloatArray
    bias: FloatArray


def take_apart(content: bytes) -> Parts:
    """The parts of BirdNET 2.4's file. Raises CheckpointError where it holds another graph, or nothing here reads it."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise CheckpointError(
            "BirdNET is read with ai-edge-litert, which is not installed: pip install 'naturelm[birdnet]'"
        ) from error
    try:
        return _Graph(content, schema).parts()
    except (AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(f"this file does not hold the graph of BirdNET 2.4: {error}") from error


class _Graph:
    """The graph as objects that can be changed."""

    def __init__(self, content: bytes, schema: Any) -> None:
        if content[4:8] != _IDENTIFIER:
            raise ValueError("no TensorFlow Lite file")
        self._schema = schema
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        self._model.signatureDefs = self._model.metadata = None  # of the whole graph
        self._graph = self._model.subgraphs[0]
        self._operators = self._graph.operators
        self._makers = {tensor: operator for operator in self._operators for tensor in operator.outputs}
        self._names = {number: name for name, number in vars(schema.BuiltinOperator).items()}

    def parts(self) -> Parts:
        """See `Parts`. Changes the graph."""
        samples = int(self._graph.tensors[self._graph.inputs[0]].shape[1])
        scaling = self._scaling()
        transforms, given = [], []
        for operator in self._operators:
            if self._name(operator) == "RFFT2D":
                bands = self._user(operator, "SQUEEZE", "CAST", "RESHAPE", "FULLY_CONNECTED")
                transform = self._transform(operator, bands)
                frames = 1 + (samples - len(transform.window)) // transform.step
                self._give(bands, frames, transform.bins)
                transforms.append(transform)
                given.append(int(bands.inputs[0]))
        if len(transforms) != 2:
            raise ValueError(f"{len(transforms)} spectrograms instead of 2")
        last = self._operators[-1]
        self._expect(last, "FULLY_CONNECTED")
        embedding = int(last.inputs[0])
        return Parts(
            scaling,
            tuple(transforms),
            self._packed(self._between(given, embedding), given, embedding),
            self._packed([last], [embedding], int(last.outputs[0])),
            self._constant(last.inputs[1]).copy(),
            self._constant(last.inputs[2]).copy(),
        )

    def _scaling(self) -> Scaling:
        names = ("REDUCE_MIN", "SUB", "REDUCE_MAX", "ADD", "DIV", "SUB", "MUL")
        operators = self._operators[: len(names)]
        for operator, name in zip(operators, names, strict=True):
            self._expect(operator, name)
        return Scaling(*(np.float32(self._constant(operators[index].inputs[1])) for index in (3, 5, 6)))

    def _transform(self, operator: Any, bands: Any) -> Transform:
        """The transform, as far as the mel bands hear it."""
        windowed = self._maker(operator, "EXPAND_DIMS", "MUL")
        window = self._constant(windowed.inputs[1])
        # Frames are gathered as blocks of samples: the places of a frame's blocks, and how many on the next begins.
        places = self._maker(self._maker(windowed, "RESHAPE", "GATHER"), "ADD", place=1)
        block = len(window) // self._constant(places.inputs[1]).size
        step = block * int(self._constant(self._maker(places, "RESHAPE", "MUL").inputs[1]))
        heard = np.flatnonzero(self._constant(bands.inputs[1]).any(0))
        return Transform(window.copy(), step, slice(int(heard[0]), int(heard[-1]) + 1))

    def _give(self, bands: Any, frames: int, bins: slice) -> None:
        """Let the mel bands take what a transform gives, in those bins that they hear, straight from outside."""
        mel = np.ascontiguousarray(self._constant(bands.inputs[1])[:, bins])
        buffer = self._schema.BufferT()
        buffer.data = mel.reshape(-1).view(np.uint8)
        given, weight = (self._graph.tensors[index] for index in bands.inputs[:2])
        weight.buffer, weight.shape = len(self._model.buffers), np.array(mel.shape, np.int32)
        self._model.buffers.append(buffer)
        given.shape, given.shapeSignature = np.array([1, frames, mel.shape[1]], np.int32), None
        # In the graph frames are rows of a matrix here, whose shape is computed. They keep their three dimensions.
        bands.builtinOptions.keepNumDims = True
        squared = self._user(bands, "RESHAPE", "MUL")
        squared.inputs = np.array([bands.outputs[0]] * 2, np.int32)

    def _between(self, given: list[int], found: int) -> list[Any]:
        """The operators that lead from the tensors `given` to the tensor `found`, in order."""
        kept, wanted = [], {found}
        for operator in reversed(self._operators):
            if wanted.intersection(operator.outputs):
                kept.append(operator)
                wanted.update(set(operator.inputs) - set(given))
        return kept[::-1]

    def _packed(self, operators: list[Any], given: list[int], found: int) -> bytes:
        """A file of some operators, with no constants but theirs."""
        import flatbuffers

        graph, buffers = self._graph, self._model.buffers
        graph.operators = operators
        graph.inputs, graph.outputs = np.array(given, np.int32), np.array([found], np.int32)
        used = {graph.tensors[index].buffer for each in operators for index in each.inputs if index >= 0}
        self._model.buffers = [
            buffer if index in used else self._schema.BufferT() for index, buffer in enumerate(buffers)
        ]
        builder = flatbuffers.Builder()
        builder.Finish(self._model.Pack(builder), _IDENTIFIER)
        self._model.buffers = buffers
        return bytes(builder.Output())

    def _maker(self, operator: Any, *names: str, place: int = 0) -> Any:
        """The operator at the end of a path backwards, through first inputs; `place`: of the path's first step."""
        for name in names:
            operator = self._makers[operator.inputs[place]]
            self._expect(operator, name)
            place = 0
        return operator

    def _user(self, operator: Any, *names: str) -> Any:
        """The operator at the end of a path forwards."""
        for name in names:
            users = (each for each in self._operators if operator.outputs[0] in each.inputs)
            operator = next((each for each in users if self._name(each) == name), None)
            if operator is None:
                raise ValueError(f"no {name} where one is")
        return operator

    def _expect(self, operator: Any, name: str) -> None:
        if self._name(operator) != name:
            raise ValueError(f"{self._name(operator)} in the place of {name}")

    def _name(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _constant(self, index: int) -> NDArray[Any]:
        tensor = self._graph.tensors[index]
        kinds = self._schema.TensorType
        kind = {kinds.FLOAT32: np.float32, kinds.INT32: np.int32}[tensor.type]
        data = np.asarray(self._model.buffers[tensor.buffer].data, dtype=np.uint8).view(kind)
        return data.reshape(() if tensor.shape is None else tensor.shape)
