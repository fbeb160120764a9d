"""Shards on disk: written whole or not at all, read by row."""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import PAIR_SCHEMA, SCHEMA_VERSION, SPLITS, Pair, pairs_to_table, row_to_pair

MANIFEST = "corpus.json"
TAXONOMY = "taxonomy.csv"
DATA = "data"
ROWS_PER_GROUP = 32
"""Rows that are read at once: about 1 MB of sound."""
_FLAC_TYPE = "PCM_16"


def write_table(table: pa.Table, path: Path, *, row_group_size: int | None = None) -> None:
    """Write a Parquet file so that it is there whole, or not at all, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # FLAC bytes do not compress further; the other columns are small beside them.
        pq.write_table(
            table, temporary, row_group_size=row_group_size, compression="zstd", use_dictionary=False
        )
        _settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _settle(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_shard(pairs: Sequence[Pair], path: Path) -> None:
    """Write one shard."""
    write_table(pairs_to_table(list(pairs)), path, row_group_size=ROWS_PER_GROUP)


def encode_flac(samples: FloatArray) -> bytes:
    """(samples,) float32 in [-1, 1] at 16 kHz as a 16-bit FLAC file."""
    buffer = BytesIO()
    with sf.SoundFile(buffer, "w", SAMPLE_RATE, 1, _FLAC_TYPE, format="FLAC") as file:
        file.write(np.clip(samples, -1.0, 1.0))
    return buffer.getvalue()


class Corpus:
    """The pairs of one split of a corpus on disk, by number: a map-style data set.

    Only row groups that are asked for are read (about 1 MB each); the last one is kept, so rows in order cost
    one read a group. Safe to hand to worker processes, which open the files for themselves.
    """

    def __init__(self, folder: Path | str, split: str = "train") -> None:
        self.folder = Path(folder)
        self.split = split
        self.paths = shard_paths(self.folder, split)
        self._starts: list[int] = []
        """Number of the first row of each group."""
        self._groups: list[tuple[Path, int]] = []
        total = 0
        for path in self.paths:
            metadata = _open_shard(path).metadata
            for group in range(metadata.num_row_groups):
                self._starts.append(total)
                self._groups.append((path, group))
                total += metadata.row_group(group).num_rows
        self._length = total
        self._kept: tuple[int, list[dict[str, object]]] | None = None
        self._open: tuple[Path, pq.ParquetFile] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Pair:
        if not 0 <= row < self._length:
            raise IndexError(row)
        group = bisect_right(self._starts, row) - 1
        if self._kept is None or self._kept[0] != group:
            path, number = self._groups[group]
            if self._open is None or self._open[0] != path:
                self._open = (path, _open_shard(path))
            try:
                rows = self._open[1].read_row_group(number).to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise CorpusError(
                    f"{path}: rows {self._starts[group]} and on cannot be read ({error}); rebuild it"
                ) from error
            self._kept = (group, rows)
        return row_to_pair(self._kept[1][row - self._starts[group]])

    def __iter__(self) -> Iterator[Pair]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_open": None}

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows, without the sound unless it is asked for."""
        return pa.concat_tables([_open_shard(path).read(list(columns)) for path in self.paths])

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `corpus.json` says."""
        return read_manifest(self.folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished build says of itself; CorpusError where there is none."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{folder}: no {MANIFEST}; not a corpus, or its build was not finished: run it again"
        ) from error
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: not readable ({error}); build the corpus again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA_VERSION:
        raise CorpusError(f"{path}: written by another version of naturelm; build the corpus again")
    return manifest


def shard_paths(folder: Path, split: str) -> list[Path]:
    """Shards of a split, in order; CorpusError if there are none."""
    if split not in SPLITS:
        raise CorpusError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    paths = sorted((folder / DATA).glob(f"{split}-*-of-*.parquet"))
    if not paths:
        raise CorpusError(
            f"{folder}: no shards of the {split} split in its folder `{DATA}`; is this a finished corpus?"
        )
    return paths


def _open_shard(path: Path) -> pq.ParquetFile:
    try:
        shard = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"{path}: not a readable Parquet file ({error}); build the corpus again") from error
    missing = [name for name in PAIR_SCHEMA.names if name not in shard.schema_arrow.names]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; not a shard of a corpus")
    return shard


def decode(pair: Pair) -> FloatArray:
    """A pair's clip, (samples,) float32 at 16 kHz. AudioError if its bytes are no sound."""
    return read_audio(pair.audio, sample_rate=SAMPLE_RATE)
