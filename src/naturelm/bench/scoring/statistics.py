"""Scores as functions of sums over rows, so that resampled and swapped rows cost one matrix product each.

A statistic has a few numbers for each row; its value depends on their totals alone. A resample of recordings is then a
matrix of counts, and a swap of two systems' answers a matrix of zeros and ones.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_RESAMPLES = 1000
_LEVEL = 0.95
_WEIGHTS_AT_ONCE = 2**21
"""Numbers of one batch of resamples: 16 MB."""


@dataclass(frozen=True)
class Statistic:
    """One score of one component."""

    name: str
    sums: Floats
    """(rows, numbers): what each row adds."""
    of_totals: Callable[[Floats], Floats]
    """From (..., numbers) totals to (...,) values."""
    share: bool = False
    """Whether it is the mean of marks between 0 and 1 of the rows."""

    @property
    def value(self) -> float:
        """Of all rows."""
        return float(self.of_totals(self.sums.sum(0)))


@dataclass(frozen=True)
class Figure:
    """A score, with its 95% interval where one is known."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def mean_of(name: str, marks: Sequence[float] | Sequence[bool] | Floats, *, share: bool = True) -> Statistic:
    """The mean of one mark a row. share: marks are between 0 and 1."""
    numbers = np.asarray(marks, np.float64)
    sums = np.stack([numbers, np.ones(len(numbers))], 1)
    return Statistic(name, sums, lambda totals: divided(totals[..., 0], totals[..., 1]), share)


def divided(above: Floats, below: Floats) -> Floats:
    """0 where nothing is below."""
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


def group_codes(groups: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """(rows,) numbers from 0, the same for rows of one group."""
    place: dict[Hashable, int] = {}
    return np.array([place.setdefault(group, len(place)) for group in groups], np.int64)


def by_group(sums: Floats, codes: npt.NDArray[np.int64]) -> Floats:
    """(groups, numbers) sums of the rows of each group."""
    if len(codes) and codes.max() == len(codes) - 1:
        return sums[np.argsort(codes, kind="stable")]  # every row is a group of its own
    found = np.zeros((int(codes.max(initial=-1)) + 1, sums.shape[1]))
    np.add.at(found, codes, sums)
    return found


def drawn_counts(groups: int, seed: int, resamples: int = _RESAMPLES) -> Iterator[Floats]:
    """How often each group is drawn, in batches of (resamples, groups); as many draws as there are groups."""
    rng = np.random.default_rng(seed)
    batch = max(1, _WEIGHTS_AT_ONCE // groups)
    for first in range(0, resamples, batch):
        size = min(batch, resamples - first)
        drawn = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def with_intervals(
    statistics: Sequence[Statistic], groups: Sequence[Hashable], *, seed: int = 0
) -> list[Figure]:
    """Values with percentile bootstrap intervals, for which groups of rows are drawn whole.

    Where all marks of a share are 0, or all are 1, the free end is the exact binomial bound (the rule of three).
    """
    if not statistics:
        return []
    codes = group_codes(groups)
    sums = [by_group(of.sums, codes) for of in statistics]
    drawn: list[list[Floats]] = [[] for _ in statistics]
    for counts in drawn_counts(len(sums[0]), seed):
        for values, of, own in zip(drawn, statistics, sums, strict=True):
            values.append(of.of_totals(counts @ own))
    return [
        _figure(of, np.concatenate(values), len(own))
        for of, values, own in zip(statistics, drawn, sums, strict=True)
    ]


def _figure(of: Statistic, drawn: Floats, groups: int) -> Figure:
    if of.share and of.value in {0.0, 1.0}:
        reach = 1 - (1 - _LEVEL) ** (1 / groups)
        return Figure(of.name, of.value, max(0.0, of.value - reach), min(1.0, of.value + reach))
    return Figure(of.name, of.value, *interval_of(drawn, of.value))


def interval_of(drawn: Floats, value: float) -> tuple[float, float]:
    """95% percentile interval of resampled values.

    Resamples lose rare classes and repeat rows, which moves some scores to one side; where the interval does not even
    hold the value, it is moved by the difference of the resamples' mean and the value.
    """
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    shift = 0.0 if low <= value <= high else value - float(np.mean(drawn))
    # Of a lopsided distribution the mean can lie outside as well.
    return min(value, float(low) + shift), max(value, float(high) + shift)


def classification_statistics(said: Sequence[str], labels: Sequence[str]) -> list[Statistic]:
    """Precision, recall and F1 weighted by support, and balanced accuracy (the mean recall of the labels)."""
    classes = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    truth = one_hot([classes[label] for label in labels], len(classes))
    decided = one_hot([classes.get(answer, -1) for answer in said], len(classes))
    sums = np.concatenate([truth * decided, decided, truth], 1)
    weighted = ("Precision", "Recall", "F1 Score")
    return [
        *(Statistic(name, sums, _weighted(place)) for place, name in enumerate(weighted)),
        Statistic("Balanced Accuracy", sums, _macro(1)),
    ]


def detection_statistics(truth: Floats, decided: Floats) -> list[Statistic]:
    """Macro F1, recall and precision over (rows, classes) of zeros and ones."""
    sums = np.concatenate([truth * decided, decided, truth], 1)
    return [
        Statistic(name, sums, _macro(place)) for name, place in (("F1", 2), ("Recall", 1), ("Precision", 0))
    ]


def one_hot(places: Sequence[int], classes: int) -> Floats:
    """(rows, classes); a row of zeros for a place below 0."""
    found = np.zeros((len(places), classes))
    rows = np.flatnonzero(np.asarray(places) >= 0)
    found[rows, np.asarray(places, np.int64)[rows]] = 1
    return found


def _rates(totals: Floats) -> tuple[tuple[Floats, Floats, Floats], Floats]:
    hits, said, support = np.split(totals, 3, axis=-1)
    precision, recall = divided(hits, said), divided(hits, support)
    return (precision, recall, divided(2 * precision * recall, precision + recall)), support


def _weighted(place: int) -> Callable[[Floats], Floats]:
    def value(totals: Floats) -> Floats:
        rates, support = _rates(totals)
        return np.asarray((rates[place] * support).sum(-1) / support.sum(-1))

    return value


def _macro(place: int) -> Callable[[Floats], Floats]:
    def value(totals: Floats) -> Floats:
        rates, support = _rates(totals)
        there = support > 0  # a resample may lack a rare class, which then says nothing
        return divided((rates[place] * there).sum(-1), there.sum(-1).astype(np.float64))

    return value
