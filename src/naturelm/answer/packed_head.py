"""The language model's last layer, its weight in the order in which a CPU's kernels read it.

torch brings a float32 weight into that order for each product. For a few rows and a large vocabulary this takes longer
than the product itself, and the last layer is the largest: SmolLM2-135M's is a fifth of its arithmetic.
`benchmarks/packed_head.py` has the numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_MOST_BYTES = 2**30
"""The weight is kept twice, which a large language model has no memory for."""


class PackedHead:
    """A packed copy of a linear layer's weight. Only for answers: it has no gradient, and goes stale with the layer."""

    @classmethod
    def of(cls, layer: nn.Module | None) -> "PackedHead | None":
        """Of a plain linear layer in float32 on a CPU, of no more than 1 GB; None where it is another, or torch cannot."""
        if not (
            type(layer) is nn.Linear
            and "forward" not in vars(layer)  # a hook's, such as accelerate's
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
            and layer.weight.nbytes <= _MOST_BYTES
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        ):
            return None
        return cls(layer)

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        # What torch's own compiler puts in the place of linear layers on a CPU; torch has no public name for it.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The layer computes with the packed weight inside the block."""
        self._layer.forward = self._product  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            del self._layer.forward

    def _product(self, rows: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._weight, self._layer.bias, "none", [], ""
        )
        return product
