"""Shards on disk: written whole or not at all, read by row."""

import json
import os
import re
from bisect import bisect_right
from collections import OrderedDict
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
_OPEN_SHARDS = 64
_FLAC_TYPE = "PCM_16"
_HALF_WRITTEN = re.compile(r"\..+\.(parquet|json|csv|md)\.\d+")
_SHARD_NAME = re.compile(r"[a-z]+-\d{5}-of-\d{5,6}\.parquet")


def write_table(table: pa.Table, path: Path, *, row_group_size: int | None = None) -> None:
    """Write a Parquet file so that it is there whole, or not at all, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        codecs = _compression(table.schema)
        with pq.ParquetWriter(temporary, table.schema, compression=codecs, use_dictionary=False) as writer:
            if len(table):  # `datasets` cannot read a group without rows
                writer.write_table(table, row_group_size)
        _settle(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _compression(schema: pa.Schema) -> dict[str, str]:
    """Codec of each column: none for sound, which FLAC has compressed, so that it is read as it lies there."""
    codecs: dict[str, str] = {}
    for column in schema:
        if pa.types.is_struct(column.type):
            codecs |= {f"{column.name}.{field.name}": "none" for field in column.type}
        else:
            inner = ".list.element" if pa.types.is_list(column.type) else ""
            codecs[f"{column.name}{inner}"] = "zstd"
    return codecs


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


def sweep(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a folder."""
    for path in folder.glob(".*"):
        if _HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


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
        self._kept: tuple[int, pa.Table] | None = None
        self._open: OrderedDict[Path, pq.ParquetFile] = OrderedDict()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Pair:
        if not 0 <= row < self._length:
            raise IndexError(row)
        group = bisect_right(self._starts, row) - 1
        if self._kept is None or self._kept[0] != group:
            path, number = self._groups[group]
            try:
                rows = self._shard(path).read_row_group(number, PAIR_SCHEMA.names, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise CorpusError(
                    f"{path}: rows {self._starts[group]} and on cannot be read ({error}); rebuild it"
                ) from error
            self._kept = (group, rows)
        # Of the group only this row is turned into Python objects: drawing at random, that is what costs.
        return row_to_pair(self._kept[1].slice(row - self._starts[group], 1).to_pylist()[0])

    def _shard(self, path: Path) -> pq.ParquetFile:
        if path not in self._open:
            if len(self._open) == _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            self._open[path] = _open_shard(path)
        self._open.move_to_end(path)
        return self._open[path]

    def __iter__(self) -> Iterator[Pair]:
        return (self[row] for row in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_open": OrderedDict()}

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows, without the sound unless it is asked for."""
        return pa.concat_tables([_read_columns(path, columns) for path in self.paths])

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
    """Shards of a split, in order; CorpusError if there are none, or not all that there should be."""
    if split not in SPLITS:
        raise CorpusError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    paths = sorted((folder / DATA).glob(f"{split}-*-of-*.parquet"))
    if not paths:
        raise CorpusError(
            f"{folder}: no shards of the {split} split in its folder `{DATA}`; is this a finished corpus?"
        )
    series = int(paths[0].stem.rpartition("-")[2]) if _SHARD_NAME.fullmatch(paths[0].name) else 0
    expected = [f"{split}-{number:05d}-of-{series:05d}.parquet" for number in range(series)]
    found = [path.name for path in paths]
    if found != expected:
        strange = sorted(set(found) - set(expected))
        what = (
            f"{strange[0]} is of another build"
            if strange
            else f"{sorted(set(expected) - set(found))[0]} is missing"
        )
        raise CorpusError(f"{folder / DATA}: {what}; build the corpus again")
    return paths


def _read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return _open_shard(path).read(list(columns))
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); build the corpus again") from error


def _open_shard(path: Path) -> pq.ParquetFile:
    try:
        shard = pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise CorpusError(f"{path}: not a readable Parquet file ({error}); build the corpus again") from error
    missing = [name for name in PAIR_SCHEMA.names if name not in shard.schema_arrow.names]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; not a shard of a corpus")
    return shard


def decode(pair: Pair) -> FloatArray:
    """A pair's clip, (samples,) float32 at 16 kHz. AudioError if its bytes are no sound."""
    return read_audio(pair.audio, sample_rate=SAMPLE_RATE)
