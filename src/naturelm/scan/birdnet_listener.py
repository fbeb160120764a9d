"""BirdNET 2.4 as the engine of a scan: a confidence for each of its 6,522 labels, or for some of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from naturelm.audio.sources import FloatArray
from naturelm.model.birdnet_graph import BIRDNET_RATE, WINDOW_SAMPLES, BirdNetGraph, BirdNetLabel
from naturelm.model.birdnet_range import BirdNetRange
from naturelm.scan.birdnet_place import Place
from naturelm.scan.listening import Kind, Said
from naturelm.scan.options import Label, ScanError

_SECONDS = WINDOW_SAMPLES / BIRDNET_RATE
_HOP = WINDOW_SAMPLES // 2
_LONGEST = 600.0
DEFAULT_FLOOR = 0.01


class BirdNetListener:
    """BirdNET's confidences (see `Listener`); a window longer than 3 s has the highest of its stretches of 3 s.

    labels: what to look for, by common or scientific name; empty for all. place: leaves out what does not
    live there. floor: confidences below it are not kept, but each window's highest always is.

    Raises ScanError for a label that BirdNET does not have, CheckpointError where BirdNET is not fetched.
    """

    name = "birdnet"
    sample_rate = BIRDNET_RATE
    default_window = _SECONDS
    longest_window = _LONGEST
    batch_size = 16
    alike = True  # see `BirdNetGraph.scores`

    def __init__(
        self, labels: tuple[Label, ...] = (), place: Place | None = None, floor: float = DEFAULT_FLOOR
    ) -> None:
        if not 0 <= floor <= 1:
            raise ScanError(f"--floor: between 0 and 1, not {floor:g}")
        self._graph = BirdNetGraph()
        self._place = place
        self._floor = floor
        wanted = _indices(self._graph.labels, labels) if labels else range(len(self._graph.labels))
        if place is not None:
            near = BirdNetRange().occurrence(place.latitude, place.longitude, place.week) >= place.least
            wanted = [index for index in wanted if near[index]]
            if not wanted:
                raise ScanError(
                    "of the labels none lives at this place and time; check --lat, --lon and --week, or lower --occurrence"
                )
        self._wanted = np.array(wanted)
        self.labels = tuple(_label(self._graph.labels[index]) for index in wanted)

    @property
    def identity(self) -> Mapping[str, object]:
        """What its scores depend on."""
        return {
            "model": "BirdNET 2.4",
            "labels": [label.scientific for label in self.labels],
            "place": None if self._place is None else asdict(self._place),
            "floor": self._floor,
        }

    def prepare(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """See `Listener.prepare`: BirdNET makes its spectrogram itself, so what is left is to cut."""
        return [_stretches(samples) for samples in windows]

    def listen(self, prepared: Sequence[FloatArray]) -> list[tuple[Said, ...]]:
        """See `Listener.listen`."""
        if not prepared:
            return []
        embeddings = np.concatenate([self._graph.embed(stretches) for stretches in prepared])
        logits = self._graph.scores(embeddings)[:, self._wanted]
        ends = np.cumsum([len(stretches) for stretches in prepared])
        return [self._said(each.max(0)) for each in np.split(logits, ends[:-1])]

    def _said(self, logits: FloatArray) -> tuple[Said, ...]:
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        kept = np.flatnonzero(scores >= self._floor)
        if not len(kept):
            kept = np.array([scores.argmax()])
        return tuple(Said(Kind.LABEL, "", self.labels[index].text, float(scores[index])) for index in kept)


def _stretches(samples: FloatArray) -> FloatArray:
    """(samples,) to (stretches, 144,000): 3 s each, every 1.5 s, the last ending with the sound; silence after a short one."""
    padded = np.pad(samples, (0, max(0, WINDOW_SAMPLES - len(samples))))
    last = len(padded) - WINDOW_SAMPLES
    starts = sorted({*range(0, last, _HOP), last})
    return np.stack([padded[start : start + WINDOW_SAMPLES] for start in starts])


def _label(label: BirdNetLabel) -> Label:
    return Label(label.common, label.scientific, label.common)


def _indices(known: Sequence[BirdNetLabel], labels: tuple[Label, ...]) -> list[int]:
    by_name: dict[str, int] = {}
    for index, label in enumerate(known):
        by_name.setdefault(label.scientific.casefold(), index)
        by_name.setdefault(label.common.casefold(), index)
    indices = set()
    for wanted in labels:
        names = [name.casefold() for name in (wanted.scientific, wanted.text) if name]
        found = [by_name[name] for name in names if name in by_name]
        if not found:
            raise ScanError(
                f"{wanted.text!r}: BirdNET has no such label; give the common English or scientific name that it uses"
            )
        indices.add(found[0])
    return sorted(indices)
