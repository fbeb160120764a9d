"""What is reached without listening: one answer always, or any label at random."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from naturelm.bench.components import MOST_CHOICES, Component, Row, spread
from naturelm.bench.matching import normalise
from naturelm.bench.metrics import Metric

MOST_FREQUENT = "most frequent answer"
UNIFORM = "uniform guess"


@dataclass(frozen=True)
class Chance:
    """The larger of the two levels, and which it is: `MOST_FREQUENT` or `UNIFORM`."""

    value: float
    how: str


def chance_level(component: Component, metric: Metric, training: Counter[str]) -> Chance:
    """What the better of two guessers reaches on a component by a metric.

    training: how often each answer was right in the training rows of the same task.

    One guesser gives the most frequent answer always: of the component's answers the most frequent in
    training; where training has none of them (unseen species), the component's own most frequent, which is
    more than a guesser can know. The other draws from the row's closed set, or from the component's answers.
    """
    guess = _most_frequent(component, training)
    constant = float(np.mean([metric.mark(row, guess) for row in component.rows]))
    uniform = float(np.mean([_uniform(component, metric, row) for row in component.rows]))
    return Chance(uniform, UNIFORM) if uniform > constant else Chance(constant, MOST_FREQUENT)


def _most_frequent(component: Component, training: Counter[str]) -> str:
    known = Counter({normalise(answer): number for answer, number in training.items()})
    own = Counter(row.answer for row in component.rows)
    return max(component.labels, key=lambda label: (known[normalise(label)], own[label]))


def _uniform(component: Component, metric: Metric, row: Row) -> float:
    labels = component.choices(row) if metric.closed else spread(component.labels, MOST_CHOICES)
    return float(np.mean([metric.mark(row, label) for label in labels])) if labels else 0.0
