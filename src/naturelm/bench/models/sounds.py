"""Clips as a system wants them: at its own rate, and in windows of its own length."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import numpy as np
import soxr

from naturelm.bench.models.base import BenchItem
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import AudioError

Pool = Literal["max", "mean"]
"""Over the windows of a clip."""


def heard(item: BenchItem, rate: int) -> FloatArray:
    """The clip of an item, (samples,) float32 mono at `rate` Hz.

    Raises AudioError for a clip that is empty, not one-dimensional or not finite, and for an impossible rate.
    """
    samples = np.asarray(item.waveform, dtype=np.float32)
    if samples.ndim != 1 or not len(samples):
        raise AudioError(f"{item.id}: a clip is one row of samples, not an array of shape {samples.shape}")
    if item.sample_rate <= 0:
        raise AudioError(f"{item.id}: {item.sample_rate} Hz is no sample rate; give the clip's own")
    if not np.isfinite(samples).all():
        raise AudioError(f"{item.id}: the clip holds values that are not numbers; read it again")
    if item.sample_rate == rate:
        return samples
    # A few samples may resample to none: silence takes their place.
    resampled = np.asarray(soxr.resample(samples, item.sample_rate, rate), dtype=np.float32)
    return resampled if len(resampled) else np.zeros(1, dtype=np.float32)


def windows(samples: FloatArray, length: int, hop: int) -> FloatArray:
    """(samples,) to (windows, length), starting `hop` samples apart; the last one ends with the clip.

    A shorter clip is one window, silence after it. Raises ValueError unless 1 <= hop <= length.
    """
    if not 1 <= hop <= length:
        raise ValueError(f"windows of {length} samples start 1 to {length} apart, not {hop}")
    filled = np.pad(samples, (0, max(0, length - len(samples))))
    last = len(filled) - length
    starts = [min(number * hop, last) for number in range(1 + math.ceil(last / hop))]
    return np.stack([filled[start : start + length] for start in starts])


def check_pool(pool: str) -> None:
    """Raises ValueError unless it is a way to pool windows."""
    if pool not in get_args(Pool):
        raise ValueError(f"windows are pooled by {' or '.join(get_args(Pool))}, not {pool!r}")


def by_clip(
    clips: Iterable[Iterable[FloatArray]], hear: Callable[[list[FloatArray]], FloatArray], at_once: int
) -> list[FloatArray]:
    """(windows, size) of each clip, what `hear` makes of its windows.

    clips: the windows of each, one at least. hear: windows, each (samples,), to (windows, size); it is given up to
    `at_once` of them, of one clip or of several.
    """
    pending: list[FloatArray] = []
    found: list[FloatArray] = []
    counts: list[int] = []
    for clip in clips:
        before = len(pending)
        pending.extend(clip)
        counts.append(len(pending) - before)
        while len(pending) >= at_once:
            found.append(hear(pending[:at_once]))
            del pending[:at_once]
    if pending:
        found.append(hear(pending))
    return np.split(np.concatenate(found), np.cumsum(counts)[:-1])


def pooled(rows: FloatArray, pool: Pool) -> FloatArray:
    """(windows, size) to (size,): the highest, or the mean."""
    return rows.max(0) if pool == "max" else rows.mean(0)


def sigmoid(scores: FloatArray) -> FloatArray:
    """Scores of any size to confidences in [0, 1]."""
    return (1 / (1 + np.exp(-np.clip(scores, -60, 60)))).astype(np.float32)
