"""In which numbers training computes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from naturelm.train.options import Precision

_UNITS = ("avx512_bf16", "amx_bf16")
"""As torch calls them, where a processor multiplies in bfloat16 about twice as fast as in float32."""


def in_bfloat16(precision: Precision) -> bool:
    """Whether products are computed in bfloat16; `auto`: where there are units for it.

    Without them a processor takes 2 to 4 times as long as in float32.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # Not every version of torch that is supported can tell.
    units: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(units.get(name, False) for name in _UNITS)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """What a forward pass runs in."""
    return torch.autocast(device.type, torch.bfloat16) if in_bfloat16(precision) else nullcontext()
