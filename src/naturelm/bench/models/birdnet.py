"""BirdNET 2.4 as a system of the benchmark: its own labels, each brought to those of the data set.

It is the network that `naturelm models fetch birdnet` fetches, run as published: 48 kHz, windows of 3 s, a
confidence of each of 6,522 labels, which is the sigmoid of its score. The highest confidence in any window is the
clip's. It has no words of its own: of a closed set it chooses the labels that it has a name for, and whatever asks
for something else (a caption, a call type, a whale) it cannot answer, which is an error and no guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.closed_set import ClosedSets
from naturelm.bench.models.names import SystemLabel, names_from
from naturelm.bench.models.sounds import Pool, by_clip, check_pool, heard, pooled, sigmoid, windows
from naturelm.corpus.recordings import FloatArray

_WINDOWS_AT_ONCE = 64
"""37 MB of sound."""


@dataclass(frozen=True)
class BirdNetOptions:
    """How BirdNET is asked."""

    hop_seconds: float = 1.5
    """From the start of a window to that of the next; at most 3."""
    pool: Pool = "max"
    """Over the windows of a clip."""
    threshold: float = 0.25
    """Confidence from which a label is detected: that of BirdNET's own analyser."""
    taxonomy: Path | None = None
    """More names for labels (see `Taxonomy.open`), beside those that come with the package."""

    def __post_init__(self) -> None:
        if not 0 < self.hop_seconds <= 3:
            raise ValueError(f"hop_seconds is above 0 and at most 3, not {self.hop_seconds}")
        check_pool(self.pool)


class BirdNetSystem:
    """BirdNET 2.4. `info.note` says how many labels of each data set it had a name for, so far."""

    def __init__(self, options: BirdNetOptions | None = None, *, folder: Path | None = None) -> None:
        """folder: of BirdNET's files; the cache's when None.

        Raises CheckpointError where they are not fetched, TaxonomyError for a false taxonomy file.
        """
        from naturelm.model.birdnet_graph import BirdNetGraph

        self._options = options or BirdNetOptions()
        self._graph: BirdNetGraph = BirdNetGraph(folder)
        labels = [SystemLabel(label.scientific, label.common) for label in self._graph.labels]
        self._sets = ClosedSets("BirdNET", labels, names_from(self._options.taxonomy))

    @property
    def info(self) -> ModelInfo:
        """What it is, and what it could not be asked so far."""
        from naturelm.model.birdnet_files import BIRDNET_LICENCE

        how = f"{self._options.pool} over windows of 3 s, {self._options.hop_seconds:g} s apart"
        note = f"{how}; detection from a confidence of {self._options.threshold:g}"
        return ModelInfo("BirdNET", "2.4", BIRDNET_LICENCE.spdx, "; ".join((note, *self._sets.notes())))

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Confidences in [0, 1] of every label but `None`; 0 where BirdNET has no name for it.

        Raises UnanswerableError for a data set of whose labels it knows none, and AudioError for a false clip.
        """
        self._sets.check(batch)
        return self._sets.answer(batch, self._confidences(batch), self._options.threshold)

    def _confidences(self, batch: Sequence[BenchItem]) -> FloatArray:
        """(items, 6,522) confidences."""
        from naturelm.model.birdnet_graph import BIRDNET_RATE, WINDOW_SAMPLES

        hop = max(1, round(self._options.hop_seconds * BIRDNET_RATE))
        cut = (windows(heard(item, BIRDNET_RATE), WINDOW_SAMPLES, hop) for item in batch)
        return np.stack(
            [pooled(of, self._options.pool) for of in by_clip(cut, self._score, _WINDOWS_AT_ONCE)]
        )

    def _score(self, cut: Sequence[FloatArray]) -> FloatArray:
        """(windows, 6,522) confidences."""
        return sigmoid(self._graph.predict(np.stack(cut)))
