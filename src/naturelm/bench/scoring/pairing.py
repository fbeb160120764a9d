"""Two systems on the same rows: how far apart they are, and how often that comes by chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from naturelm.bench.running.journal import RunRow
from naturelm.bench.running.runs import Run
from naturelm.bench.scoring.run_scores import by_component, statistics_of
from naturelm.bench.scoring.statistics import (
    Floats,
    Statistic,
    by_group,
    drawn_counts,
    group_codes,
    interval_of,
)

_SWAPS = 2000
_FEWEST_GROUPS = 6
"""Of fewer, all on one side come by chance more often than 1 time in 20."""


@dataclass(frozen=True)
class PairedTest:
    """The main score of one component, of `first` less that of `second`, on the rows that both were asked."""

    dataset_name: str
    metric: str
    first: str
    second: str
    rows: int
    groups: int
    difference: float
    low: float
    """Ends of the 95% interval of the difference; recordings are drawn whole, with the answers of both."""
    high: float
    p: float
    """How often a difference as large comes when the two swap their answers to recordings at random (2,000 times)."""
    adjusted: float
    """The same, with Holm's correction for the number of components."""

    @property
    def verdict(self) -> str:
        """In words: by `adjusted` at 0.05."""
        if self.groups < _FEWEST_GROUPS:
            return "too few recordings to tell"
        if self.adjusted > 0.05:
            return "no difference shown"
        return f"{self.first} higher" if self.difference > 0 else f"{self.second} higher"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "verdict": self.verdict}


def paired_tests(
    first: Run, second: Run, *, names: tuple[str, str] | None = None, seed: int = 0
) -> list[PairedTest]:
    """One test for each component of which both answered some of the same rows, in the order of the first.

    names: as the two are called; default their folders' names.
    """
    called = names or (first.name, second.name)
    others = by_component(second.rows)
    found = []
    for name, rows in by_component(first.rows).items():
        theirs = {row.id: row for row in others.get(name, [])}
        pairs = [
            (row, theirs[row.id]) for row in rows if row.id in theirs and theirs[row.id].label == row.label
        ]
        if pairs:
            found.append(_test(name, first.tasks[name], pairs, called, seed))
    order = np.argsort([test.p for test in found], kind="stable")
    adjusted = dict.fromkeys(range(len(found)), 1.0)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, found[place].p * (len(found) - rank)))
        adjusted[int(place)] = least
    return [PairedTest(**{**asdict(test), "adjusted": adjusted[place]}) for place, test in enumerate(found)]


def _test(
    name: str, task: str, pairs: Sequence[tuple[RunRow, RunRow]], called: tuple[str, str], seed: int
) -> PairedTest:
    ours = statistics_of(name, task, [row for row, _ in pairs])[0]
    theirs = statistics_of(name, task, [row for _, row in pairs])[0]
    codes = group_codes([row.group for row, _ in pairs])
    own, other = by_group(ours.sums, codes), by_group(theirs.sums, codes)
    difference = ours.value - theirs.value
    drawn = np.concatenate(
        [
            ours.of_totals(counts @ own) - theirs.of_totals(counts @ other)
            for counts in drawn_counts(len(own), seed)
        ]
    )
    low, high = interval_of(drawn, difference)
    return PairedTest(
        dataset_name=name,
        metric=ours.name,
        first=called[0],
        second=called[1],
        rows=len(pairs),
        groups=len(own),
        difference=difference,
        low=low,
        high=high,
        p=_swapped(ours, own, other, difference, seed),
        adjusted=1.0,
    )


def _swapped(of: Statistic, own: Floats, other: Floats, difference: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    as_large = 0
    at_once = max(1, 2**21 // len(own))
    for first in range(0, _SWAPS, at_once):
        kept = rng.integers(0, 2, (min(at_once, _SWAPS - first), len(own))).astype(np.float64)
        moved = kept @ (own - other)
        one, two = other.sum(0) + moved, own.sum(0) - moved
        # Sums in another order differ in the last digits.
        as_large += int((np.abs(of.of_totals(one) - of.of_totals(two)) >= abs(difference) - 1e-12).sum())
    return (as_large + 1) / (_SWAPS + 1)
