"""What a build knows of every usable recording, in a form that worker processes share.

The library is an Arrow file that is mapped into memory, so that two million recordings cost each
worker no more than the rows that it touches.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa

from naturelm.corpus.activity import Activity
from naturelm.corpus.recordings import Event, Recording
from naturelm.corpus.sounds import sound_from_json, sound_to_json
from naturelm.corpus.taxonomy import Taxon

Novelty = Literal["seen", "unseen-species", "unseen-genus", "unseen-family"]
"""How far a recording's taxa are from those of the training split."""

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("recording", pa.string()),
        ("taxa", pa.list_(pa.int32())),
        ("background", pa.list_(pa.int32())),
        ("split", pa.string()),
        ("novelty", pa.string()),
        ("group", pa.string()),
        ("activity", pa.binary()),
        ("duration", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Entry:
    """A recording that can be used, with its taxa resolved and its split decided."""

    recording: Recording
    taxa: tuple[Taxon, ...]
    """The focal taxa, in the order of `recording.species`."""
    background: tuple[Taxon, ...]
    split: str
    novelty: Novelty
    group: str
    """What must stay in one split, `source:group`."""
    activity: Activity
    duration: float
    """Seconds that may be used."""

    @property
    def key(self) -> str:
        """`source:id`, unique in a corpus."""
        return f"{self.recording.source}:{self.recording.id}"

    @property
    def all_taxa(self) -> tuple[Taxon, ...]:
        """Every taxon that can be heard, focal ones first."""
        return tuple(dict.fromkeys((*self.taxa, *self.background)))


def recording_to_json(recording: Recording) -> str:
    """One recording as a line of JSON."""
    values = {
        field.name: getattr(recording, field.name)
        for field in fields(recording)
        if field.name != "sound" and getattr(recording, field.name) != field.default
    }
    values["events"] = [asdict(event) for event in recording.events]
    return json.dumps({**values, "sound": sound_to_json(recording.sound)}, ensure_ascii=False, sort_keys=True)


def recording_from_json(text: str) -> Recording:
    """The recording that `recording_to_json` wrote."""
    values = json.loads(text)
    values["events"] = tuple(Event(**event) for event in values["events"])
    values["sound"] = sound_from_json(values["sound"])
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Recording(**known)  # type: ignore[arg-type]


def write_library(path: Path, entries: Iterable[Entry], taxa: list[Taxon]) -> None:
    """Write entries to an Arrow file; `taxa` are all of theirs, in the order that the library keeps."""
    places = {taxon.scientific_name: place for place, taxon in enumerate(taxa)}
    schema = _SCHEMA.with_metadata({"taxa": json.dumps([asdict(taxon) for taxon in taxa])})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        rows: list[dict[str, object]] = []
        for entry in entries:
            rows.append(
                {
                    "key": entry.key,
                    "recording": recording_to_json(entry.recording),
                    "taxa": [places[taxon.scientific_name] for taxon in entry.taxa],
                    "background": [places[taxon.scientific_name] for taxon in entry.background],
                    "split": entry.split,
                    "novelty": entry.novelty,
                    "group": entry.group,
                    "activity": entry.activity.to_bytes(),
                    "duration": entry.duration,
                }
            )
            if len(rows) == 4096:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                rows = []
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


class Library:
    """Entries by number, read from the file when asked for."""

    def __init__(self, path: Path) -> None:
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            self._table = reader.read_all()
        described = json.loads(self._table.schema.metadata[b"taxa"])
        self.taxa = [_taxon_from_json(values) for values in described]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Entry]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Entry:
        values = {name: self._table.column(name)[row].as_py() for name in _SCHEMA.names}
        return Entry(
            recording=recording_from_json(values["recording"]),
            taxa=tuple(self.taxa[place] for place in values["taxa"]),
            background=tuple(self.taxa[place] for place in values["background"]),
            split=values["split"],
            novelty=values["novelty"],
            group=values["group"],
            activity=Activity.from_bytes(values["activity"]),
            duration=values["duration"],
        )


def _taxon_from_json(values: dict[str, object]) -> Taxon:
    return Taxon(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})  # type: ignore[arg-type]
