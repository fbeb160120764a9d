"""The language model's memory of prompts that have begun: made once, and gone on from as often as wanted.

Keys carry their positions within, so a row may stand anywhere in a cache; what lies between is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from naturelm.answer.roomy import roomy_cache
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import left_pad


@dataclass(frozen=True)
class Prefix:
    """The language model's memory of the beginning of a prompt.

    layers: a (keys, values) pair a layer, each (key-value heads, length, head size).
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[1]

    @property
    def nbytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers)


def begin(
    model: NatureLMForConditionalGeneration,
    tokens: Sequence[tuple[int, ...]],
    audio: Sequence[Tensor],
    pad_id: int,
) -> list[Prefix]:
    """Prefixes of some tokens, in one pass. audio: embeddings of all clips, in the order of their places."""
    return _after(model, DynamicCache(), *_padded(model, [0] * len(tokens), tokens, pad_id), audio)


def extend(
    model: NatureLMForConditionalGeneration,
    prefixes: Sequence[Prefix],
    tokens: Sequence[tuple[int, ...]],
    audio: Sequence[Tensor],
    pad_id: int,
) -> list[Prefix]:
    """Prefixes with more tokens behind them, in one pass; arguments as in `begin`. The old ones stay as they are."""
    return _after(model, *resume(model, prefixes, tokens, pad_id), audio)


def resume(
    model: NatureLMForConditionalGeneration,
    prefixes: Sequence[Prefix],
    tokens: Sequence[tuple[int, ...]],
    pad_id: int,
    copies: int = 1,
) -> tuple[Cache, Tensor, Tensor]:
    """A cache of the prefixes, and (batch, longest prefix + longest tokens) ids and mask with tokens behind them.

    Each of the two parts is padded on the left. copies: of each row, in the cache alone.
    """
    layers = []
    for index in range(len(prefixes[0].layers)):
        own = [prefix.layers[index] for prefix in prefixes]
        layers.append(([keys for keys, _ in own], [values for _, values in own]))
    cache = roomy_cache(layers, copies, max(len(own) for own in tokens))
    return cache, *_padded(model, [prefix.length for prefix in prefixes], tokens, pad_id)


def _padded(
    model: NatureLMForConditionalGeneration,
    lengths: Sequence[int],
    tokens: Sequence[tuple[int, ...]],
    pad_id: int,
) -> tuple[Tensor, Tensor]:
    longest = max(lengths)
    new = left_pad(tokens, pad_id)
    known = torch.tensor([[0] * (longest - length) + [1] * length for length in lengths], dtype=torch.long)
    # What stands at the ids of a prefix plays no part: it is in the cache.
    ids = torch.cat([torch.full_like(known, pad_id), new["input_ids"]], 1)
    mask = torch.cat([known, new["attention_mask"]], 1)
    return ids.to(model.device), mask.to(model.device)


def _after(
    model: NatureLMForConditionalGeneration,
    cache: Cache,
    ids: Tensor,
    mask: Tensor,
    audio: Sequence[Tensor],
) -> list[Prefix]:
    new = ids[:, cache.get_seq_length() :]
    # The decoder alone, since nobody wants to know which token comes next.
    model.get_decoder()(
        inputs_embeds=model.embed_prompt(new, list(audio)),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, -new.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    own = [row.nonzero().flatten() for row in mask]
    return [
        Prefix(
            tuple(
                (layer.keys[row].index_select(1, places), layer.values[row].index_select(1, places))
                for layer in cache.layers
            )
        )
        for row, places in enumerate(own)
    ]
