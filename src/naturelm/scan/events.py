"""Windows to events: scores that are high enough, neighbours of one label joined."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from naturelm.scan.listening import Kind
from naturelm.scan.options import ScanError, is_no_find

LEAST_OF_LABELS = 0.25
_SLACK = 1e-6  # s; times that should be equal may differ in their last digits


@dataclass(frozen=True)
class EventOptions:
    """What counts as an event. These are not part of a scan: events are made anew from its scores at any time.

    min_confidence: least score; None is 0.25 for labels, and any for answers, since the probability of a whole sentence is
    low however right it is. top: at most so many labels of a window, the highest; None for all.
    merge: join windows of one label that overlap, touch or lie at most `gap` s apart. least_seconds: drop shorter
    events, after joining.

    Raises ScanError.
    """

    min_confidence: float | None = None
    top: int | None = None
    merge: bool = False
    gap: float = 0.0
    least_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise ScanError(f"--min-confidence: between 0 and 1, not {self.min_confidence:g}")
        if self.top is not None and self.top < 1:
            raise ScanError(f"--top: 1 or more, not {self.top}")
        for option, value in (("--merge-gap", self.gap), ("--min-length", self.least_seconds)):
            if not (math.isfinite(value) and value >= 0):
                raise ScanError(f"{option}: seconds, 0 or more, not {value:g}")

    def least(self, kind: str) -> float:
        """Least score of a row of that kind."""
        if self.min_confidence is not None:
            return self.min_confidence
        return LEAST_OF_LABELS if kind == Kind.LABEL else 0.0


@dataclass(frozen=True)
class Event:
    """Something that was found. start, end: s in the recording. score: the highest of its windows.

    question: "" for labels. windows: that were joined.
    """

    recording: str
    start: float
    end: float
    label: str
    question: str
    score: float
    windows: int = 1


def find_events(rows: Iterable[dict[str, Any]], options: EventOptions) -> Iterator[Event]:
    """Events of one recording, in the order of their start, then label.

    rows: of `SCORES`, in the order of time. Memory does not grow with the recording, only with open events.
    """
    open_events: dict[tuple[str, str], Event] = {}
    waiting: list[Event] = []
    for window in _windows(rows):
        now = window[0]["start"]
        for key in [k for k, event in open_events.items() if _is_over(event, now, options)]:
            waiting.append(open_events.pop(key))
        # What is still open began before all that will follow: only what began before it may go.
        horizon = min([now, *(event.start for event in open_events.values())])
        ready = sorted((e for e in waiting if e.start < horizon), key=_order)
        waiting = [e for e in waiting if e.start >= horizon]
        yield from _long_enough(ready, options)
        for event in _of_window(window, options):
            key = (event.question, event.label)
            previous = open_events.get(key)
            open_events[key] = event if previous is None else _joined(previous, event)
    yield from _long_enough(sorted([*waiting, *open_events.values()], key=_order), options)


def _windows(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    window: list[dict[str, Any]] = []
    for row in rows:
        if window and row["window"] != window[0]["window"]:
            yield window
            window = []
        window.append(row)
    if window:
        yield window


def _of_window(rows: list[dict[str, Any]], options: EventOptions) -> Iterator[Event]:
    found = [row for row in rows if row["score"] is not None and row["score"] >= options.least(row["kind"])]
    found = [row for row in found if not is_no_find(row["label"])]
    labels = sorted(
        (row for row in found if row["kind"] == Kind.LABEL), key=lambda row: (-row["score"], row["label"])
    )
    for row in [*labels[: options.top], *(row for row in found if row["kind"] == Kind.ANSWER)]:
        yield Event(
            row["recording"], row["start"], row["end"], row["label"], row["question"], float(row["score"])
        )


def _is_over(event: Event, now: float, options: EventOptions) -> bool:
    return not options.merge or now > event.end + options.gap + _SLACK


def _joined(first: Event, second: Event) -> Event:
    return Event(
        first.recording,
        first.start,
        max(first.end, second.end),
        first.label,
        first.question,
        max(first.score, second.score),
        first.windows + second.windows,
    )


def _long_enough(events: Iterable[Event], options: EventOptions) -> Iterator[Event]:
    return (e for e in events if e.end - e.start >= options.least_seconds - _SLACK)


def _order(event: Event) -> tuple[float, str, str]:
    return event.start, event.question, event.label
