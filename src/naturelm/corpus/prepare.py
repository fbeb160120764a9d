"""First stage of a build: every recording is opened once, and what a build must know of it is kept.

Recordings are worked through in chunks, in the order in which the sources list them; each finished
chunk is a Parquet file, so that a build that was killed goes on where it was.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.audio import SAMPLE_RATE, audio_info
from naturelm.corpus.activity import Activity
from naturelm.corpus.fingerprint import Fingerprint, fingerprint
from naturelm.corpus.library import recording_from_json, recording_to_json
from naturelm.corpus.options import BuildOptions
from naturelm.corpus.recordings import Event, Failure, FileSound, FloatArray, Recording
from naturelm.corpus.storage import write_table
from naturelm.errors import AudioError

CHUNK = 128
_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("file_name", pa.string()),
        ("cause", pa.string()),
        ("recording", pa.string()),
        ("duration", pa.float64()),
        ("activity", pa.binary()),
        ("fingerprint", pa.binary()),
        ("digest", pa.binary()),
    ]
)
_LEAST_EVENT = 0.25
_LEAST_TAIL = 1.0
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A recording that can be read, and what was heard in it."""

    recording: Recording
    duration: float
    """Seconds that may be used."""
    activity: Activity
    fingerprint: Fingerprint | None
    """None for generated sound, which cannot be anyone else's recording."""
    digest: bytes = b""
    """Of the samples, by which copies are found that are too short or steady for a fingerprint."""


def listed(options: BuildOptions) -> Iterator[Recording | Failure]:
    """Every recording of every source; long ones with events as windows; a second use of an id is a failure."""
    seen: set[bytes] = set()
    for source in options.sources:
        for row in source.recordings():
            if isinstance(row, Failure):
                yield row
                continue
            key = hashlib.blake2b(f"{row.source}:{row.id}".encode(), digest_size=12).digest()
            if key in seen:
                cause = (
                    f"its id {row.id!r} was already used by another recording; ids must be unique in a source"
                )
                yield Failure(row.source, row.file_name, cause)
                continue
            seen.add(key)
            yield from _windows(row, options)


def _windows(recording: Recording, options: BuildOptions) -> Iterator[Recording]:
    """A long recording with events as windows, each labelled with the events that it holds."""
    width = options.event_window
    ends = [event.end for event in recording.events]
    length = recording.duration or max(ends, default=0.0)
    if not recording.events or length <= 1.5 * width or not isinstance(recording.sound, FileSound):
        yield recording
        return
    windows = math.ceil((length - _LEAST_TAIL) / width)
    for number in range(windows):
        # What is too short for a window of its own stays with the last one.
        start, end = number * width, length if number == windows - 1 else (number + 1) * width
        inside = tuple(
            Event(max(event.start - start, 0.0), min(event.end, end) - start, event.label)
            for event in recording.events
            # Half of a short one is enough: else one on a boundary would be heard in two windows, told of in none.
            if min(event.end, end) - max(event.start, start)
            >= min(_LEAST_EVENT, (event.end - event.start) / 2 - _ROUNDING)
            and event.end > start
            and event.start < end
        )
        common = dict(zip(recording.species, recording.common_names, strict=False))
        species = tuple(dict.fromkeys(event.label for event in inside))
        sound = recording.sound
        yield dataclasses.replace(
            recording,
            id=f"{recording.id}@{start:g}",
            sound=FileSound(sound.path, sound.start + start, sound.start + end),
            species=species,
            common_names=tuple(common.get(name, "") for name in species),
            background=(),
            events=inside,
            kind=recording.kind if inside else "noise",
            duration=end - start,
            group=recording.group or recording.id,
        )


def chunks(rows: Iterable[Recording | Failure]) -> Iterator[list[Recording | Failure]]:
    """Rows in fixed chunks."""
    rest = iter(rows)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def chunk_digest(rows: Sequence[Recording | Failure], options: BuildOptions) -> str:
    """What a chunk's result depends on: the metadata, and size and time of each file."""
    digest = hashlib.sha256(repr((options.most_seconds, options.event_window)).encode())
    for row in rows:
        if isinstance(row, Failure):
            digest.update(repr(row).encode())
            continue
        digest.update(recording_to_json(row).encode())
        path = getattr(row.sound, "path", None)
        if isinstance(path, Path):
            try:
                status = path.stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            except OSError:
                digest.update(b"gone")
    return digest.hexdigest()


def prepare_chunk(rows: Sequence[Recording | Failure], most_seconds: float, path: Path, digest: str) -> None:
    """Open every recording of a chunk, and write what was found, failures included."""
    table = pa.Table.from_pylist([_prepared_row(row, most_seconds) for row in rows], schema=_SCHEMA)
    write_table(table.replace_schema_metadata({"digest": digest}), path)


def _prepared_row(row: Recording | Failure, most_seconds: float) -> dict[str, object]:
    if isinstance(row, Failure):
        return {"source": row.source, "file_name": row.file_name, "cause": row.cause}
    named = {"source": row.source, "file_name": row.file_name}
    try:
        waveform = _beginning(row, most_seconds)
    except AudioError as error:
        return {**named, "cause": str(error)}
    activity = Activity.of(waveform)
    if activity.silent and row.kind != "noise":
        return {
            **named,
            "cause": f"silent: no part of it is above {activity.loudest_db:.0f} dB; take it out of the archive",
        }
    known = {
        **named,
        "recording": recording_to_json(row),
        "duration": _safe_seconds(len(waveform)),
        "activity": activity.to_bytes(),
    }
    if getattr(row.sound, "generated", False):
        return known
    heard = fingerprint(waveform)
    digest = hashlib.blake2b(np.round(waveform * 32767).astype(np.int16).tobytes(), digest_size=16).digest()
    stored = np.stack([heard.bits, heard.clear, heard.strong]).tobytes()
    return {**known, "fingerprint": stored, "digest": digest}


def _beginning(recording: Recording, most_seconds: float) -> FloatArray:
    sound = recording.sound
    length = recording.duration
    if isinstance(sound, FileSound) and sound.end is None:
        # Metadata may be wrong about the length; the header is asked.
        total = audio_info(sound.path).duration
        length = None if total is None else total - sound.start
    if length is not None and length > most_seconds:
        return sound.read(0.0, most_seconds)
    return sound.read()[: round(most_seconds * SAMPLE_RATE)]


def _safe_seconds(samples: int) -> float:
    """Length that can be asked for at any rate: resampling may have added a sample at the end."""
    return max(0, math.floor((samples - 2) / SAMPLE_RATE * 1000)) / 1000


def read_prepared(paths: Iterable[Path]) -> Iterator[Prepared | Failure]:
    """All rows of the finished chunks, in order."""
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            if row["cause"] is not None:
                yield Failure(row["source"], row["file_name"], row["cause"])
                continue
            stored = row["fingerprint"]
            heard = None if stored is None else Fingerprint(*np.frombuffer(stored, np.uint32).reshape(3, -1))
            yield Prepared(
                recording_from_json(row["recording"]),
                row["duration"],
                Activity.from_bytes(row["activity"]),
                heard,
                row["digest"] or b"",
            )


def prepared_digest(path: Path) -> str | None:
    """The digest that a finished chunk was made for; None if there is no such chunk."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata.get(b"digest", b"").decode() or None
