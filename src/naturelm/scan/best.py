"""The best events of each label, and how many there were in each hour, while events go by."""

import heapq
from collections import Counter
from dataclasses import dataclass

from naturelm.scan.events import Event
from naturelm.scan.formats import Scene
from naturelm.scan.times import moment

_MOST_LABELS = 500  # free answers have no end of labels; those after the first so many are counted alone


@dataclass(frozen=True)
class Best:
    """An event and its recording."""

    event: Event
    scene: Scene


class BestEvents:
    """Keeps the best `most` events of each label in memory, and counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, list[tuple[float, tuple[int, ...], float, str, int, Best]]] = {}
        self._number = 0
        self.counts: Counter[str] = Counter()
        self.hours: dict[str, Counter[tuple[str, int]]] = {}
        """Label -> (day as ISO 8601, hour) -> events that begin in it; only of recordings whose time is known."""

    def add(self, scene: Scene, events: list[Event]) -> None:
        """The events of one recording."""
        for event in events:
            self._number += 1
            self.counts[event.label] += 1
            time = moment(scene.begin, event.start)
            if time is not None:
                self.hours.setdefault(event.label, Counter())[(time.date().isoformat(), time.hour)] += 1
            if self._most and (event.label in self._kept or len(self._kept) < _MOST_LABELS):
                kept = self._kept.setdefault(event.label, [])
                # Of equal scores the first in the order of paths and times stays, so that a rerun keeps the same.
                place = (_inverted(event.recording), -event.start, event.question, self._number)
                heapq.heappush(kept, (event.score, *place, Best(event, scene)))
                if len(kept) > self._most:
                    heapq.heappop(kept)

    def top(self, number: int) -> dict[str, list[Best]]:
        """Label -> its best events, best first; labels in alphabetical order."""
        return {
            label: [entry[-1] for entry in sorted(kept, key=lambda entry: entry[:3], reverse=True)[:number]]
            for label, kept in sorted(self._kept.items())
        }


def _inverted(text: str) -> tuple[int, ...]:
    return (*(-ord(letter) for letter in text), 1)
