"""Bootstrap intervals of a mean, by row or by whole groups of rows."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_DRAWN = 2**22
"""Numbers of one batch of resamples: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A mean and its interval. n: the values that it is the mean of."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.floating],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
    shares: bool = True,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values`, (n,).

    groups: one a value. Values of one group belong together (crops of one recording), so whole groups are drawn:
    120 crops of 12 recordings are as uncertain as 12 recordings are.

    shares: the values lie between 0 and 1. Where all are 0, or all are 1, every resample is the same; the free
    end is then the exact binomial bound, which for 95% is about 3 / n away (the rule of three), with n the number
    of groups. Differences of marks are no shares.

    Raises ValueError for no values, for numbers of values and groups that differ, and for a level outside 0 to 1.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError("an interval needs a flat list of at least one value")
    if groups is not None and len(groups) != len(numbers):
        raise ValueError(f"{len(numbers)} values and {len(groups)} groups; give one group a value")
    if not 0 < level < 1:
        raise ValueError(f"the level is between 0 and 1, not {level}")
    sums, counts = _by_group(numbers, range(len(numbers)) if groups is None else groups)
    value = float(numbers.mean())
    if shares and numbers.min() == numbers.max() and value in {0.0, 1.0}:
        reach = 1 - (1 - level) ** (1 / len(sums))
        return Interval(value, max(0.0, value - reach), min(1.0, value + reach), len(numbers))
    means = _resampled_means(sums, counts, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(numbers))


def _by_group(
    values: npt.NDArray[np.float64], groups: Sequence[Hashable]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum of the values and number of values of each group."""
    place: dict[Hashable, int] = {}
    rows = np.array([place.setdefault(group, len(place)) for group in groups])
    return np.bincount(rows, values).astype(np.float64), np.bincount(rows).astype(np.float64)


def _resampled_means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    """(resamples,) means of as many groups as there are, drawn with replacement."""
    rng = np.random.default_rng(seed)
    size = len(sums)
    batch = max(1, _MOST_DRAWN // size)
    means = []
    for first in range(0, resamples, batch):
        drawn = rng.integers(0, size, (min(batch, resamples - first), size))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)
