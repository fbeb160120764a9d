"""How well a scan agrees with annotations made by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from naturelm.scan.annotations import Annotation
from naturelm.scan.events import Event


@dataclass(frozen=True)
class Counts:
    """Right, wrong and missed."""

    hits: int
    false_alarms: int
    misses: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right; nan where nothing was found."""
        return self.hits / found if (found := self.hits + self.false_alarms) else math.nan

    @property
    def recall(self) -> float:
        """Share of what is there that was found; nan where nothing is there."""
        return self.hits / there if (there := self.hits + self.misses) else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; nan where nothing was found and nothing is there."""
        whole = 2 * self.hits + self.false_alarms + self.misses
        return 2 * self.hits / whole if whole else math.nan


@dataclass(frozen=True)
class LabelAgreement:
    """Of one label: by event (overlap of at least the IoU), by second, and the average precision of events."""

    label: str
    events: Counts
    seconds: Counts
    average_precision: float


def agreement(
    events: Mapping[str, Sequence[Event]],
    annotations: Mapping[str, Sequence[Annotation]],
    *,
    ranked: Mapping[str, Sequence[Event]] | None = None,
    least_iou: float = 0.5,
) -> list[LabelAgreement]:
    """Agreement per label, in alphabetical order; labels are compared without regard to case.

    events, annotations: by recording; only recordings with annotations (perhaps none in them) count.
    ranked: events down to any score, for average precision; `events` by default. least_iou: of an event and an
    annotation, intersection over union in time, above 0 and at most 1. An annotation is matched once, to the event
    with the highest score.
    """
    every = ranked or events
    of_events = [event for file in annotations for event in (*events.get(file, ()), *every.get(file, ()))]
    labels = {a.label.casefold(): a.label for of in annotations.values() for a in of}
    labels |= {event.label.casefold(): event.label for event in of_events}
    return [
        LabelAgreement(
            labels[label],
            _by_event(events, annotations, label, least_iou),
            _by_second(events, annotations, label),
            _average_precision(every, annotations, label, least_iou),
        )
        for label in sorted(labels)
    ]


def _by_event(
    events: Mapping[str, Sequence[Event]],
    annotations: Mapping[str, Sequence[Annotation]],
    label: str,
    least: float,
) -> Counts:
    right = _judged(events, annotations, label, least)
    there = sum(_is(a, label) for of in annotations.values() for a in of)
    hits = sum(right)
    return Counts(hits, len(right) - hits, there - hits)


def _judged(
    events: Mapping[str, Sequence[Event]],
    annotations: Mapping[str, Sequence[Annotation]],
    label: str,
    least: float,
) -> list[bool]:
    """Whether each event of a label is right, the highest score first."""
    free = {file: [a for a in of if _is(a, label)] for file, of in annotations.items()}
    found = [(event, file) for file in annotations for event in events.get(file, ()) if _is(event, label)]
    found.sort(key=lambda entry: (-entry[0].score, entry[1], entry[0].start))
    right = []
    for event, file in found:
        best = max(free[file], key=lambda a: _iou(event, a), default=None)
        hit = best is not None and _iou(event, best) >= least
        if hit and best is not None:
            free[file].remove(best)
        right.append(hit)
    return right


def _by_second(
    events: Mapping[str, Sequence[Event]], annotations: Mapping[str, Sequence[Annotation]], label: str
) -> Counts:
    hits = false_alarms = misses = 0
    for file, of in annotations.items():
        found = _covered([e for e in events.get(file, ()) if _is(e, label)])
        there = _covered([a for a in of if _is(a, label)])
        hits += len(found & there)
        false_alarms += len(found - there)
        misses += len(there - found)
    return Counts(hits, false_alarms, misses)


def _average_precision(
    events: Mapping[str, Sequence[Event]],
    annotations: Mapping[str, Sequence[Annotation]],
    label: str,
    least: float,
) -> float:
    there = sum(_is(a, label) for of in annotations.values() for a in of)
    right = np.array(_judged(events, annotations, label, least), dtype=bool)
    if not there:
        return math.nan
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / there)


def _covered(stretches: Sequence[Event | Annotation]) -> set[int]:
    """Whole seconds that the stretches touch."""
    return {
        second
        for each in stretches
        for second in range(math.floor(each.start), max(math.ceil(each.end), math.floor(each.start) + 1))
    }


def _iou(event: Event, annotation: Annotation) -> float:
    together = min(event.end, annotation.end) - max(event.start, annotation.start)
    whole = max(event.end, annotation.end) - min(event.start, annotation.start)
    return max(together, 0.0) / whole if whole > 0 else 1.0


def _is(named: Event | Annotation, label: str) -> bool:
    return named.label.casefold() == label
