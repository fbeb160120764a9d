"""A language model's layers in the form in which a CPU computes them fastest, for answers alone.

A layer with a LoRA adapter is five small operations where one product does. And torch brings a float32 weight into the
order in which its kernel reads it for each product: for a few rows and a large vocabulary that takes longer than the
product itself. `benchmarks/packed_layers.py` has the numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from naturelm.model.modeling import LORA_ADAPTER, NatureLMForConditionalGeneration

_MOST_BYTES = 2**30
"""Weights are kept twice, which a large language model has no memory for."""


class PackedLayers:
    """Packed copies of the language model's weights, with the LoRA adapter added where a layer has one.

    They have no gradient, and go stale with the weights and the adapter's scale.
    """

    @classmethod
    def of(cls, model: NatureLMForConditionalGeneration) -> "PackedLayers | None":
        """Of plain float32 layers on a CPU, of no more than 1 GB together; None where torch cannot, or there are none."""
        if not (
            torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        ):
            return None
        gaining = [*model.lora_layers(), model.get_output_embeddings()]
        first = [layer for layer in gaining if _is_plain(layer)]
        parts = {id(part) for layer in gaining if layer is not None for part in layer.modules()}
        others = [
            layer
            for layer in model.language_model.modules()
            if isinstance(layer, nn.Linear) and id(layer) not in parts and _is_plain(layer)
        ]
        # Those with an adapter and the last one gain most: they alone, where there is no memory for all.
        for layers in ([*first, *others], first):
            if layers and sum(_linear(layer).weight.nbytes for layer in layers) <= _MOST_BYTES:
                return cls(layers)
        return None

    def __init__(self, layers: list[nn.Module]) -> None:
        self._products = [(layer, _Product(layer)) for layer in layers]
        self.nbytes = sum(_linear(layer).weight.nbytes for layer in layers)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The layers compute with the packed weights inside the block."""
        for layer, product in self._products:
            layer.forward = product
        try:
            yield
        finally:
            for layer, _ in self._products:
                del layer.forward


class _Product:
    """What a layer gives, (..., in) to (..., out), by one product."""

    def __init__(self, layer: nn.Module) -> None:
        linear = _linear(layer)
        weight = linear.weight.detach()
        if isinstance(layer, LoraLayer):
            weight = weight + layer.get_delta_weight(LORA_ADAPTER).detach()
        self._bias = linear.bias
        # What torch's own compiler puts in the place of linear layers on a CPU; torch has no public name for it.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return product


def _linear(layer: nn.Module) -> nn.Linear:
    """The layer without its adapter."""
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    assert isinstance(base, nn.Linear)
    return base


def _is_plain(layer: nn.Module | None) -> bool:
    if isinstance(layer, LoraLayer):
        if layer.merged or layer.disable_adapters or LORA_ADAPTER not in layer.active_adapters:
            return False
        base = layer.get_base_layer()
    else:
        base = layer
    return (
        type(base) is nn.Linear
        and "forward" not in vars(layer)  # a hook's, such as accelerate's
        and "forward" not in vars(base)
        and base.weight.device.type == "cpu"
        and base.weight.dtype == torch.float32
    )
