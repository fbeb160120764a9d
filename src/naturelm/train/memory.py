"""Memory of a CPU training, kept by the process from step to step."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_AHEAD = 256 * 2**20


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the system and asking for it again.

    A step of the warm-up allocates and frees gigabytes of activations in large pieces, each of which glibc maps
    anew, and the kernel clears every page of it: that was a fifth of all CPU time. A step with a language model
    has smaller pieces and gains nothing by the clock (benchmarks/training.py), so this is for the warm-up. Does nothing
    where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, _AHEAD)
