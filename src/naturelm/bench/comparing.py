"""Marks of trained arms side by side: their means, and how these differ from chance and from each other.

The same rows are answered by every arm and seed. What is drawn for an interval is the individual or recording
that a row is about, with all its rows and their marks of all seeds: marks of one row by several seeds are not
several rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from naturelm.bench.held_out import AnswerRecord, Score
from naturelm.bench.intervals import bootstrap_interval

HIGHER = "higher"
LOWER = "lower"
NOT_SHOWN = "no difference shown"
TOO_FEW = "too few to tell"
CHANCE = "chance"
_FEWEST_GROUPS = 6
"""All of fewer on one side come by chance more often than 1 time in 20 (two-sided sign test)."""
_RESAMPLES = 2000
_FIELDS = {"exact": "exact", "f1": "f1", "word_f1": "word_f1", "choice": "choice_right"}
"""Where an answer has its mark by a metric."""


@dataclass(frozen=True)
class Mark:
    """Of one row by one seed."""

    value: float
    group: str


Marks = Mapping[tuple[int, str], Mark]
"""By seed and row."""


@dataclass(frozen=True)
class ArmScores:
    """What one arm of one seed answered, and how it was marked."""

    seed: int
    arm: str
    scores: tuple[Score, ...]
    answers: tuple[AnswerRecord, ...]


@dataclass(frozen=True)
class Level:
    """The mean of an arm's marks over rows and seeds, 0 to 1, with its 95% interval."""

    arm: str
    value: float
    low: float
    high: float
    by_seed: dict[int, float]
    rows: int
    groups: int


@dataclass(frozen=True)
class Comparison:
    """How far `of` lies above `against`, with the 95% interval of the difference."""

    of: str
    against: str
    value: float
    low: float
    high: float
    by_seed: dict[int, float]
    groups: int
    """Individuals or recordings, of the smaller side."""

    @property
    def verdict(self) -> str:
        """`higher` or `lower` where the interval lies on one side of 0."""
        if self.groups < _FEWEST_GROUPS:
            return TOO_FEW
        if self.low > 0:
            return HIGHER
        return LOWER if self.high < 0 else NOT_SHOWN

    @property
    def agreeing(self) -> int:
        """Seeds whose own difference is on the same side."""
        return sum((of_seed > 0) == (self.value > 0) and of_seed != 0 for of_seed in self.by_seed.values())


@dataclass(frozen=True)
class Evidence:
    """All arms and seeds that were scored."""

    runs: tuple[ArmScores, ...]

    def score(self, component: str, metric: str) -> Score | None:
        """Of the first run that has it; chance is the same in all."""
        found = (score for run in self.runs for score in run.scores)
        return next((s for s in found if (s.component, s.metric) == (component, metric)), None)

    def marks(self, arm: str, component: str, metric: str) -> Marks:
        """Empty where the arm has not been scored; rows that could not be answered are left out."""
        marks: dict[tuple[int, str], Mark] = {}
        for run in self.runs:
            for answer in run.answers if run.arm == arm else ():
                value = getattr(answer, _FIELDS[metric])
                if answer.component == component and value is not None:
                    marks[run.seed, answer.id] = Mark(value, answer.group)
        return marks


def level(arm: str, marks: Marks) -> Level:
    """Raises ValueError for no marks."""
    groups = [mark.group for mark in marks.values()]
    interval = bootstrap_interval([mark.value for mark in marks.values()], groups=groups)
    rows = len({row for _, row in marks})
    return Level(arm, interval.value, interval.low, interval.high, _by_seed(marks), rows, len(set(groups)))


def against_chance(reached: Level, chance: float) -> Comparison:
    """A level less chance, which is taken for known."""
    return Comparison(
        reached.arm,
        CHANCE,
        reached.value - chance,
        reached.low - chance,
        reached.high - chance,
        {seed: value - chance for seed, value in reached.by_seed.items()},
        reached.groups,
    )


def paired(of: str, marks: Marks, against: str, others: Marks) -> Comparison | None:
    """The same rows answered by two arms, row by row and seed by seed; None where they share none."""
    gains = {
        key: Mark(mark.value - others[key].value, mark.group) for key, mark in marks.items() if key in others
    }
    if not gains:
        return None
    groups = [gain.group for gain in gains.values()]
    interval = bootstrap_interval([gain.value for gain in gains.values()], groups=groups, shares=False)
    by_seed, number = _by_seed(gains), len(set(groups))
    return Comparison(of, against, interval.value, interval.low, interval.high, by_seed, number)


def unpaired(of: str, marks: Marks, against: str, others: Marks) -> Comparison | None:
    """Two sets of rows that have no individual in common; None where one is empty."""
    if not marks or not others:
        return None
    ours, theirs = _by_seed(marks), _by_seed(others)
    rng = np.random.default_rng(0)
    differences = _drawn_means(marks, rng) - _drawn_means(others, rng)
    low, high = np.quantile(differences, [0.025, 0.975])
    return Comparison(
        of,
        against,
        _mean(marks) - _mean(others),
        float(low),
        float(high),
        {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs},
        min(len({mark.group for mark in side.values()}) for side in (marks, others)),
    )


def _drawn_means(marks: Marks, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(resamples,) means of as many groups as there are, drawn with replacement."""
    of_group: dict[str, list[float]] = {}
    for mark in marks.values():
        of_group.setdefault(mark.group, []).append(mark.value)
    sums = np.array([sum(values) for values in of_group.values()])
    counts = np.array([len(values) for values in of_group.values()])
    drawn = rng.integers(0, len(sums), (_RESAMPLES, len(sums)))
    means: npt.NDArray[np.float64] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def _by_seed(marks: Marks) -> dict[int, float]:
    seeds = sorted({seed for seed, _ in marks})
    return {seed: _mean({key: mark for key, mark in marks.items() if key[0] == seed}) for seed in seeds}


def _mean(marks: Marks) -> float:
    return float(np.mean([mark.value for mark in marks.values()]))


def sentence(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """What comparisons, each with what it is about, say in words; made from their numbers alone."""
    pairs = list(dict.fromkeys((comparison.of, comparison.against) for _, comparison in comparisons))
    return " ".join(
        _of_pair([(about, c) for about, c in comparisons if (c.of, c.against) == pair]) for pair in pairs
    )


def _of_pair(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    first = comparisons[0][1]
    parts = []
    for verdict, why in (
        (HIGHER, ""),
        (LOWER, ""),
        (NOT_SHOWN, ": the interval of the difference contains 0"),
        (TOO_FEW, ""),
    ):
        about = [_named(name, c) for name, c in comparisons if c.verdict == verdict]
        if about:
            parts.append(f"{verdict} for {', '.join(about)}{why}")
    return f"{first.of} against {first.against}: {'; '.join(parts)}."


def _named(about: str, comparison: Comparison) -> str:
    if comparison.verdict not in {HIGHER, LOWER}:
        return about
    seeds = len(comparison.by_seed)
    agreeing = f" in {comparison.agreeing} of {seeds} seeds" if seeds > 1 else ""
    return f"{about} by {abs(comparison.value):.3f}{agreeing}"
