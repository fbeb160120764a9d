"""ONNX files of one matrix, written by hand: the format is protocol buffers, and no package for it is needed."""

import struct
from pathlib import Path

import numpy as np


def save_matrix(
    path: Path,
    weight: np.ndarray,
    *,
    batch: int | None = None,
    outputs: tuple[str, ...] = ("embedding", "label"),
) -> Path:
    """`inputs` (batch, rows) times `weight` (rows, columns), under each name of `outputs`; of all but the last, doubled.

    batch: fixed number of rows, or any.
    """
    rows, columns = weight.shape
    last = outputs[-1]
    nodes = [
        _node("MatMul", ["inputs", "weight"], [last]),
        *(_node("Add", [last, last], [name]) for name in outputs[:-1]),
    ]
    tensor = (
        _number(1, rows) + _number(1, columns) + _number(2, 1) + _text(8, "weight")
        + _bytes(9, weight.astype("<f4").tobytes())
    )  # fmt: skip
    graph = (
        b"".join(_bytes(1, node) for node in nodes)
        + _text(2, "graph")
        + _bytes(5, tensor)
        + _bytes(11, _value("inputs", batch, rows))
        + b"".join(_bytes(12, _value(name, batch, columns)) for name in outputs)
    )
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13)))
    return path


def _node(kind: str, inputs: list[str], outputs: list[str]) -> bytes:
    names = [*(_text(1, name) for name in inputs), *(_text(2, name) for name in outputs)]
    return b"".join(names) + _text(4, kind)


def _value(name: str, batch: int | None, size: int) -> bytes:
    first = _text(2, "batch") if batch is None else _number(1, batch)
    shape = _bytes(1, first) + _bytes(1, _number(1, size))
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += struct.pack("B", value & 127 | 128)
        value >>= 7
    return out + struct.pack("B", value)
