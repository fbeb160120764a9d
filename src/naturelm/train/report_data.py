"""A run's log, as a report needs it: phases, curves, counts. A log may lack any value; such points are left out."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from naturelm.train.report_plots import Curve

Line = Mapping[str, Any]
_LARGEST = 1e30
"""What is beyond is no measurement, and nothing that can be drawn."""


@dataclass(frozen=True)
class PhaseLog:
    """What was logged in one phase, by step."""

    name: str
    steps: tuple[Line, ...]
    evaluations: tuple[Line, ...]


@dataclass(frozen=True)
class Confusion:
    """Which species was written for which."""

    labels: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    """(labels, labels): rows are what is heard, columns what was written."""


@dataclass(frozen=True)
class Sample:
    """A question to the model, with the answer that is right and the one that it wrote."""

    task: str
    question: str
    answer: str
    written: str

    @property
    def right(self) -> bool:
        """Whether both say the same, but for case and spaces."""
        return _folded(self.answer) == _folded(self.written)


def phase_logs(log: Sequence[Line]) -> list[PhaseLog]:
    """The log by phase, in the order in which phases first appear."""
    ordered = sorted(log, key=lambda line: line["step"])
    return [
        PhaseLog(
            name,
            tuple(line for line in ordered if (line["phase"], line["kind"]) == (name, "step")),
            tuple(line for line in ordered if (line["phase"], line["kind"]) == (name, "evaluation")),
        )
        for name in dict.fromkeys(line["phase"] for line in log)
    ]


def number(line: Line, *keys: str) -> float:
    """The number under some keys, one within the other; NaN if there is none."""
    value: object = line
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < _LARGEST else math.nan


def names_under(lines: Iterable[Line], key: str) -> list[str]:
    """Names that occur in the mappings under a key, such as those of tasks, in alphabetical order."""
    found = (line.get(key) for line in lines)
    return sorted({name for value in found if isinstance(value, dict) for name in value})


def curve(
    lines: Sequence[Line],
    key: str,
    label: str,
    colour: str,
    *,
    within: Sequence[str] = (),
    weight: str | None = None,
    scale: float = 1.0,
    style: str = "-",
) -> Curve:
    """The numbers that lines have under a key.

    within: keys, one within the other, under which the key stands; none for the line itself. weight: key beside
    it of what the number counts in a mean; 1 each if None.
    """
    points = []
    for line in lines:
        found: Any = line
        for name in within:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, dict) and math.isfinite(value := number(found, key)):
            count = number(found, weight) if weight else 1.0
            points.append((line["step"], value * scale, count if count > 0 else 1.0))
    steps, values, weights = np.array(points, float).reshape(-1, 3).T
    return Curve(label, colour, steps, values, weights, style)


def pairs_drawn(phase: PhaseLog, key: str) -> Counter[str]:
    """Pairs by task (key `tasks`) or by source (key `sources`) over all steps."""
    drawn: Counter[str] = Counter()
    for line in phase.steps:
        found = line.get(key)
        for name in found if isinstance(found, dict) else ():
            count = number(line, key, name, "pairs") if key == "tasks" else number(line, key, name)
            drawn[name] += round(count) if count > 0 else 0
    return drawn


def samples_of(evaluation: Line) -> list[Sample]:
    """Answers that were written out at an evaluation."""
    found = evaluation.get("samples")
    return [
        Sample(*(str(given.get(name, "")) for name in ("task", "question", "answer", "written")))
        for given in (found if isinstance(found, list) else [])
        if isinstance(given, dict)
    ]


def confusion_of(evaluation: Line) -> Confusion | None:
    """The confusion matrix of an evaluation, if it has one that is square, of counts, and not empty."""
    found = evaluation.get("confusion")
    if not isinstance(found, dict):
        return None
    labels, rows = found.get("labels"), found.get("counts")
    if not isinstance(labels, list) or not isinstance(rows, list) or not labels:
        return None
    try:
        counts = np.array(rows, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    if counts.shape != (len(labels), len(labels)) or counts.min() < 0 or not counts.any():
        return None
    return Confusion(tuple(map(str, labels)), counts)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
