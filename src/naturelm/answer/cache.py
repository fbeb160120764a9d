"""What has been heard is kept, so that one clip serves many questions.

Keys are made of all of a clip's samples and of the state of the weights: two clips that agree
almost everywhere are different clips, and nothing heard with other weights is served.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Value = TypeVar("Value")
_SAMPLED_WEIGHTS = 8


def clip_key(samples: np.ndarray) -> bytes:
    """Key of a clip: a digest of every sample."""
    return hashlib.blake2b(np.ascontiguousarray(samples, dtype=np.float32).tobytes(), digest_size=16).digest()


def weights_stamp(model: nn.Module) -> int:
    """A number that changes when weights do.

    It holds every tensor's address and version counter, which in-place operations and optimisers
    raise, and a few values of each, since writing through `.data` (as merging LoRA does) raises
    no counter.
    """
    tensors = [*model.parameters(), *model.buffers()]
    with torch.no_grad():
        sampled = [
            t.detach().reshape(-1)[:: max(1, t.numel() // _SAMPLED_WEIGHTS)] for t in tensors if t.numel()
        ]
        groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for values in sampled:
            groups.setdefault((values.device, values.dtype), []).append(values)
        contents = tuple(torch.cat(group).double().cpu().numpy().tobytes() for group in groups.values())
    # Inference tensors keep no version counter.
    versions = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
    return hash((versions, contents))


class ByteLimitedCache(Generic[Value]):
    """Keeps the most recently used values within a number of bytes; for several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._turn:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value, nbytes: int) -> None:
        with self._turn:
            if key in self._values:
                self.used -= self._values.pop(key)[1]
            self._values[key] = (value, nbytes)
            self.used += nbytes
            while self.used > self.limit and self._values:
                self.used -= self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._turn:
            self._values.clear()
            self.used = 0

    def __len__(self) -> int:
        return len(self._values)
