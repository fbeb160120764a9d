"""The scores of a recording on disk: one Parquet file each, written as they come, there whole or not at all."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.scan.finding import shown
from naturelm.scan.listening import Kind, Said
from naturelm.scan.options import ScanError

SCORES = pa.schema(
    [
        pa.field("recording", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("window", pa.int32(), nullable=False),  # 0, 1, 2, ... in the order of time
        pa.field("start", pa.float64(), nullable=False),  # s from the recording's beginning
        pa.field("end", pa.float64(), nullable=False),  # s, where the sound in the window ends
        pa.field("kind", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("question", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("label", pa.dictionary(pa.int32(), pa.string())),  # label or answer
        pa.field("score", pa.float32()),  # 0 to 1
    ]
)
"""One row a window and label, or a window and question; one without label and score for a window not heard."""
_FACTS = b"naturelm.recording"
_ROWS_PER_GROUP = 65_536


@dataclass(frozen=True)
class RecordingFacts:
    """What a finished recording's file says of the recording."""

    path: str
    folder: str  # the one that was searched
    size: int  # bytes
    modified: int  # ns since 1970
    sample_rate: int  # Hz
    channels: int
    duration: float  # s, of the whole file, as far as it can be read
    seconds: float  # scanned up to here, from the recording's beginning
    windows: int
    unheard: int  # windows that were gated or silent
    header_time: str  # what the header says of when it was recorded, ISO 8601; "" if nothing
    failure: str  # why the rest could not be read; "" if all was


class ScoreWriter:
    """Rows of one recording to a Parquet file, in bounded memory; `finish` puts it in its place."""

    def __init__(self, path: Path, recording: str) -> None:
        self._path = path
        self._recording = shown(recording)
        self._temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
        self._writer = pq.ParquetWriter(self._temporary, SCORES, compression="zstd")
        self._rows: list[tuple[int, float, float, str, str, str | None, float | None]] = []

    def add(self, window: int, start: float, end: float, said: tuple[Said, ...]) -> None:
        """One window and what is said of it. start, end: s."""
        self._rows += [(window, start, end, s.kind, s.question, s.label, s.score) for s in said]
        self._write_full_groups()

    def skip(self, window: int, start: float, end: float, kind: Kind) -> None:
        """One window that was not listened to."""
        self._rows.append((window, start, end, kind, "", None, None))
        self._write_full_groups()

    def finish(self, facts: RecordingFacts) -> None:
        """Write the rest, and rename the file into place."""
        self._write(self._rows)
        self._writer.add_key_value_metadata({_FACTS: json.dumps(asdict(facts))})
        self._writer.close()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def _write_full_groups(self) -> None:
        # By number of rows alone, so that the file's bytes follow from what is in it.
        while len(self._rows) >= _ROWS_PER_GROUP:
            self._write(self._rows[:_ROWS_PER_GROUP])
            self._rows = self._rows[_ROWS_PER_GROUP:]

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            columns = [[self._recording] * len(rows), *map(list, zip(*rows, strict=True))]
            arrays = [
                pa.array(values, field.type.value_type).dictionary_encode()
                if pa.types.is_dictionary(field.type)
                else pa.array(values, field.type)
                for values, field in zip(columns, SCORES, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCORES), len(rows))


def read_facts(path: Path) -> RecordingFacts:
    """What a finished recording's file says. ScanError where it is none."""
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != SCORES.names:
                raise ScanError(f"{path}: has other columns than scores; delete it, and scan again")
            stated = (file.schema_arrow.metadata or {}).get(_FACTS) or (file.metadata.metadata or {})[_FACTS]
        return RecordingFacts(**json.loads(stated))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ScanError(
            f"{path}: not a finished recording's scores ({error}); delete it, and scan again"
        ) from error


def read_scores(path: Path) -> Iterator[pa.Table]:
    """The rows of a file of scores, a bounded number at a time. ScanError where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                yield file.read_row_group(group, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ScanError(f"{path}: cannot be read ({error}); delete it, and scan or export again") from error


def join_scores(parts: list[Path], out: Path, metadata: Mapping[str, str]) -> int:
    """One file of all rows, in the order of the parts, written whole or not at all; returns the rows."""
    temporary = out.with_name(f".{out.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    rows = 0
    try:
        with pq.ParquetWriter(temporary, SCORES, compression="zstd") as writer:
            waiting: list[pa.Table] = []
            for table in (table for part in parts for table in read_scores(part)):
                # A row group for each of a hundred thousand recordings would be more of index than of scores.
                if waiting and sum(map(len, waiting)) + len(table) > _ROWS_PER_GROUP:
                    writer.write_table(_joined(waiting))
                    waiting = []
                waiting.append(table)
                rows += len(table)
            if waiting:
                writer.write_table(_joined(waiting))
            writer.add_key_value_metadata(dict(metadata))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _joined(tables: list[pa.Table]) -> pa.Table:
    # As read, dictionaries are of each file's own; unified, the schema stays one.
    return pa.concat_tables([table.cast(SCORES) for table in tables]).unify_dictionaries().combine_chunks()
