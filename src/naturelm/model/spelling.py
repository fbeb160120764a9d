"""Names and words as embeddings of the language model's own tokens, with how sure the ear is of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CONFIDENCE_SPREAD = 0.1
"""About that of a small language model's own embeddings: from 0 the vectors would hardly be learnt."""


def spelt(names: Sequence[str], tokenizer: Any, length: int) -> Tensor:
    """(names, length) int32 ids, as inside a sentence: cut off, or filled with line ends."""
    (fill,) = tokenizer("\n", add_special_tokens=False)["input_ids"][:1]
    rows = [tokenizer(f" {name}", add_special_tokens=False)["input_ids"][:length] for name in names]
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], dtype=torch.int32)


def embedded(embed: nn.Module, ids: Tensor, sure: Tensor, confidence: Tensor) -> Tensor:
    """ids: (clips, hints, length); sure: (clips, hints); confidence: (output_size,), added to each token as far as
    its hint is sure. Returns (clips, hints * length, output_size)."""
    tokens: Tensor = embed(ids.long())
    return (tokens + sure[..., None, None].to(tokens) * confidence.to(tokens)).flatten(1, 2)
