"""SALMONN's published files: a `.pth` of what was trained, beside the three models that it was trained on.

The `.pth` holds the bridge and a LoRA adapter, under the names of the original modules. It is a pickle, read with
`weights_only=True`: tensors and plain values, nothing that could run.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from naturelm.bench.models.deciding import one_line
from naturelm.errors import CheckpointError
from naturelm.model.configuration import NatureLMProjectorConfig
from naturelm.model.official import shorten, translate_name

_LORA = re.compile(r"llama_model\.base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_FROZEN = ("speech_encoder.", "beats.")  # copies of models that come in files of their own
_HEAD = 64  # numbers of one head of the Q-Former, as of BERT
_WINDOW = 17  # frames: round(1500 * 0.333333 / 30)


@dataclass(frozen=True)
class SalmonnWeights:
    """What a `.pth` holds, sorted, under the names that this project has for it."""

    speech_norm: Mapping[str, Tensor]
    audio_norm: Mapping[str, Tensor]
    projector: Mapping[str, Tensor]
    """Of a `WindowedProjector` without a norm of its input."""
    lora: Mapping[str, tuple[Tensor, Tensor]]
    """Of each weight of the language model that is adapted, A (rank, inputs) and B (outputs, rank)."""

    def projector_config(self) -> NatureLMProjectorConfig:
        """The size of the bridge, read from its tensors."""
        _, queries, hidden = self.projector["query_tokens"].shape
        layers = {name.split(".")[3] for name in self.projector if name.startswith("qformer.encoder.layer.")}
        feed = self.projector["qformer.encoder.layer.0.intermediate_query.dense.weight"]
        return NatureLMProjectorConfig(
            window_frames=_WINDOW,
            stride_frames=_WINDOW,
            num_queries=queries,
            hidden_size=hidden,
            num_hidden_layers=len(layers),
            num_attention_heads=max(1, hidden // _HEAD),
            intermediate_size=len(feed),
        )


def read_salmonn(path: Path) -> SalmonnWeights:
    """The tensors of a `.pth`, a dict with `model`. Raises CheckpointError, naming it and the cure."""
    named = _named_tensors(path)
    norms: dict[str, dict[str, Tensor]] = {"ln_speech": {}, "ln_audio": {}}
    projector: dict[str, Tensor] = {}
    adapters: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in named.items():
        part, _, leaf = name.partition(".")
        lora = _LORA.fullmatch(name)
        if part in norms:
            norms[part][leaf] = tensor.float()
        elif lora:
            adapters.setdefault(f"{lora[1]}.weight", {})[lora[2]] = tensor.float()
        elif not name.startswith(_FROZEN):
            try:
                # The bridge is that of NatureLM-audio, under names that begin differently.
                ours = translate_name(re.sub(r"^speech_(Qformer|query_tokens|llama_proj)", r"audio_\1", name))
            except KeyError:
                unknown.append(name)
                continue
            if ours is not None and ours.startswith("projector."):
                projector[ours.removeprefix("projector.")] = tensor.float()
            elif ours is not None:
                unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"{path}: tensors that SALMONN does not have: {shorten(unknown)}; give its own .pth"
        )
    lone = [name for name, pair in adapters.items() if set(pair) != {"A", "B"}]
    needed = ("query_tokens", "linear.weight", "qformer.encoder.layer.0.intermediate_query.dense.weight")
    lone += [name for name in needed if name not in projector]
    if lone or not all(norms.values()):
        missing = [*lone, *(name for name, of in norms.items() if not of)]
        raise CheckpointError(f"{path}: tensors missing {shorten(missing)}; give SALMONN's whole .pth")
    lora_pairs = {name: (pair["A"], pair["B"]) for name, pair in adapters.items()}
    return SalmonnWeights(norms["ln_speech"], norms["ln_audio"], projector, lora_pairs)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, part: str) -> None:
    """Load all tensors of a module. Raises CheckpointError where they are not its own."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its {part} does not fit ({one_line(error)}); give the Whisper, BEATs and Vicuna it was trained with"
        ) from error


@torch.no_grad()
def merge_lora(model: nn.Module, lora: Mapping[str, tuple[Tensor, Tensor]], alpha: float, path: Path) -> None:
    """Add the adapter to the weights that it adapts, scaled by alpha / rank. Raises CheckpointError."""
    weights = dict(model.named_parameters())
    for name, (down, up) in lora.items():
        weight = weights.get(name)
        if weight is None or weight.shape != (len(up), down.shape[1]) or up.shape[1] != len(down):
            raise CheckpointError(
                f"{path}: its LoRA adapter of {name} does not fit the language model; give the Vicuna it was trained with"
            )
        change = alpha / len(down) * (up @ down)
        weight.add_(change.to(weight.device, weight.dtype))


def _named_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give SALMONN's .pth")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, since it holds objects other than tensors and could run code when loaded; "
            "use the file from its authors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable .pth file ({one_line(error)}); download it again"
        ) from error
    named = content.get("model") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in named.items()
    ):
        raise CheckpointError(f"{path}: not a SALMONN checkpoint, which has tensors under 'model'")
    return named
