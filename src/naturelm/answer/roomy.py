"""A language model's memory with room to grow: tokens that come are written behind those that are there.

transformers' own copies the whole memory for every token of an answer (`benchmarks/growing_memory.py`).
"""

from collections.abc import Sequence

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_ROOM = 32
"""Tokens of room that are made at a time."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, each (batch, heads, tokens, size): views of tensors with more tokens than are there."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor], copies: int, room: int) -> None:
        """keys, values: of each row, (heads, own tokens, size); the longest starts at the first place, and zeros stand
        before shorter ones. copies: of each row. room: tokens that will follow, as far as is known."""
        super().__init__()
        self.lazy_initialization(keys[0], values[0])
        self._roomy = [_right_aligned(rows, copies, room) for rows in (keys, values)]
        length = max(row.shape[1] for row in keys)
        self.keys, self.values = (whole[:, :, :length] for whole in self._roomy)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write behind what is there; returns all."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        both = [self.keys, self.values]
        # Whatever selects or reorders rows leaves tensors of its own, which have no room.
        if end > self._roomy[0].shape[2] or both[0].data_ptr() != self._roomy[0].data_ptr():
            self._roomy = [_with_room(part, end + _ROOM) for part in both]
        for whole, new in zip(self._roomy, (key_states, value_states), strict=True):
            whole[:, :, start:end] = new
        self.keys, self.values = (whole[:, :, :end] for whole in self._roomy)
        return self.keys, self.values


def roomy_cache(
    layers: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], copies: int = 1, room: int = 0
) -> Cache:
    """A cache of the keys and values of each layer, each of them a list of rows; arguments as of `RoomyLayer`."""
    return Cache(layers=[RoomyLayer(keys, values, copies, room + _ROOM) for keys, values in layers])


def _right_aligned(rows: Sequence[Tensor], copies: int, room: int) -> Tensor:
    longest = max(row.shape[1] for row in rows)
    heads, _, size = rows[0].shape
    whole = rows[0].new_empty(len(rows) * copies, heads, longest + room, size)
    for place, row in enumerate(rows):
        own = whole[place * copies : (place + 1) * copies, :, :longest]
        own[:, :, : longest - row.shape[1]] = 0  # masked, but what is no number there would spread
        own[:, :, longest - row.shape[1] :] = row
    return whole


def _with_room(part: Tensor, length: int) -> Tensor:
    whole = part.new_empty(*part.shape[:2], length, part.shape[3])
    whole[:, :, : part.shape[2]] = part
    return whole
