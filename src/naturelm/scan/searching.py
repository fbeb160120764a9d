"""Nearest windows to examples, and detection from a few of them, over a file of embeddings."""

import heapq
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from naturelm.audio.sources import FloatArray
from naturelm.scan.embedding import Embedder, embed_example, read_embeddings
from naturelm.scan.finding import find_recordings
from naturelm.scan.options import ScanError

MOST_EXAMPLES = 20
_BACKGROUND = 2000
"""Windows drawn from the file as examples of everything else."""


@dataclass(frozen=True)
class Hit:
    """A window that was found. score: cosine from -1 to 1, or of a probe a probability. start, end: s."""

    label: str
    score: float
    recording: str
    start: float
    end: float


def read_examples(path: Path, embedder: Embedder, window: float) -> dict[str, FloatArray]:
    """Embeddings of examples by label, (windows, size) each.

    path: a clip, whose name is its label; or a folder with a folder of clips for each label. Clips longer than
    `window` s give several. ScanError where there is no clip; NatureLMError where one cannot be read.
    """
    if not path.is_dir():
        return {path.stem: embed_example(path, embedder, window)}
    examples = {}
    for folder in sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")):
        clips = find_recordings([folder])
        examples[folder.name] = np.concatenate(
            [embed_example(Path(clip.path), embedder, window) for clip in clips]
        )
    if not examples:
        raise ScanError(f"{path}: no folders in it; put the clips of each label into a folder of its name")
    return examples


def nearest(file: Path, examples: Mapping[str, FloatArray], top: int) -> list[Hit]:
    """The `top` windows of each label with the highest cosine to any of its examples, exactly, the best first."""
    directions = {label: _unit(values) for label, values in examples.items()}

    def scores(label: str, windows: FloatArray) -> FloatArray:
        cosines: FloatArray = (_unit(windows) @ directions[label].T).max(1)
        return cosines

    return _best(file, list(examples), scores, top)


def probe(file: Path, examples: Mapping[str, FloatArray], top: int, *, seed: int = 0) -> list[Hit]:
    """The `top` windows of each label by the probability of a linear probe learnt from its examples.

    Each label against the other labels' examples and against windows drawn at random from the file, which are
    taken for background: right as long as the label is rare there. ScanError for more than 20 examples of a
    label, with which a classifier should be trained and tested properly.
    """
    from sklearn.linear_model import LogisticRegression

    many = [label for label, values in examples.items() if len(values) > MOST_EXAMPLES]
    if many:
        raise ScanError(
            f"{many[0]}: {len(examples[many[0]])} example windows; a probe takes 1 to {MOST_EXAMPLES}"
        )
    background = _unit(_drawn(file, seed))
    probes = {}
    for label, values in examples.items():
        others = [_unit(other) for name, other in examples.items() if name != label]
        rows = np.concatenate([_unit(values), *others, background])
        known = np.arange(len(rows)) < len(values)
        probes[label] = LogisticRegression(C=100.0, class_weight="balanced", max_iter=1000).fit(rows, known)

    def scores(label: str, windows: FloatArray) -> FloatArray:
        found: FloatArray = probes[label].predict_proba(_unit(windows))[:, 1]
        return found

    return _best(file, list(examples), scores, top)


def _best(file: Path, labels: list[str], scores: Any, top: int) -> list[Hit]:
    heaps: dict[str, list[tuple[float, int, Hit]]] = {label: [] for label in labels}
    number = itertools.count()
    for table, windows in read_embeddings(file):
        for label in labels:
            of_group = scores(label, windows)
            for row in np.argsort(-of_group, kind="stable")[:top]:
                hit = _hit(label, float(of_group[row]), table, int(row))
                # Of equal scores the earlier stays.
                heapq.heappush(heaps[label], (hit.score, -next(number), hit))
                if len(heaps[label]) > top:
                    heapq.heappop(heaps[label])
    return [entry[2] for label in labels for entry in sorted(heaps[label], key=lambda e: e[:2], reverse=True)]


def _hit(label: str, score: float, table: pa.Table, row: int) -> Hit:
    values = {name: table.column(name)[row].as_py() for name in ("recording", "start", "end")}
    return Hit(label, score, **values)


def _drawn(file: Path, seed: int) -> FloatArray:
    """Windows at random, the same for the same seed, by reservoir sampling."""
    rng = np.random.default_rng(seed)
    kept: list[FloatArray] = []
    for seen, window in enumerate(_windows(file)):
        if len(kept) < _BACKGROUND:
            kept.append(window)
        elif (place := int(rng.integers(seen + 1))) < _BACKGROUND:
            kept[place] = window
    if not kept:
        raise ScanError(f"{file}: holds no embeddings; embed some recordings first")
    return np.stack(kept)


def _windows(file: Path) -> Iterator[FloatArray]:
    for _, windows in read_embeddings(file):
        yield from windows


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length 1; of zeros, zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = rows / np.maximum(lengths, 1e-12)
    return unit
