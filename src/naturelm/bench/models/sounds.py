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


def pooled_scores(
    clips: Iterable[FloatArray], score: Callable[[FloatArray], FloatArray], at_once: int, pool: Pool
) -> FloatArray:
    """(clips, labels) scores, each the highest or the mean over the windows of a clip.

    clips: (windows, length) of each, with one window at least. score: (windows, length) to (windows, labels); it
    is given up to `at_once` windows, of one clip or of several.
    """
    pending: list[FloatArray] = []
    found: list[FloatArray] = []
    counts: list[int] = []
    for clip in clips:
        counts.append(len(clip))
        pending.extend(clip)
        while len(pending) >= at_once:
            found.append(score(np.stack(pending[:at_once])))
            del pending[:at_once]
    if pending:
        found.append(score(np.stack(pending)))
    scores = np.concatenate(found)
    by_clip = np.split(scores, np.cumsum(counts)[:-1])
    return np.stack([of.max(0) if pool == "max" else of.mean(0) for of in by_clip])


def sigmoid(scores: FloatArray) -> FloatArray:
    """Scores of any size to confidences in [0, 1]."""
    return (1 / (1 + np.exp(-np.clip(scores, -60, 60)))).astype(np.float32)
