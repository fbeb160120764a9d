"""A folder of your own sounds, of any depth, and a table of what they are (or one sub-folder a class).

The table is comma-separated UTF-8 (`.tsv` and `.txt`: tab-separated) with a header. One column names the
file: `file`, `file_name`, `filename`, `path` or `Begin File`. Any of the others may be there:

- `species`, `common_name`, `background`, `labels`, `call_type`: lists, separated by `;`
- `caption`, `transcript`, `life_stage`, `sex`, `recordist`, `group`, `region`, `license`, `instrument`: text
- `count`: individuals, 1 or more; `pitch`: MIDI note number; `date`: `2021`, `2021-05` or `2021-05-31`
- `start`, `end`: seconds into the file; a row with either is a clip of it
- `split`: `train`, `validation` or `test`; `kind`: `animal`, `environment`, `speech`, `music` or `noise`

Without a table the name of the folder that a sound lies in is its label, with blanks for `_`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from naturelm.corpus.recordings import Failure, FileSound, Kind, Recording
from naturelm.corpus.schema import SPLITS
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import Ids, as_seconds, same_name, sound_file, sound_names
from naturelm.corpus.sources.tables import column_names, existing_folder, read_rows

NAME = "folder"
_TABLE = "metadata.csv"
_FILE_COLUMNS = ("file", "file_name", "filename", "path", "begin_file")
_LISTS = ("species", "common_name", "background", "labels", "call_type")
_TEXTS = (
    "caption",
    "transcript",
    "life_stage",
    "sex",
    "recordist",
    "group",
    "region",
    "license",
    "instrument",
)
_CHECKED = ("count", "pitch", "date", "start", "end", "split", "kind")
_COLUMNS = (*_LISTS, *_TEXTS, *_CHECKED)
_SURPLUS = "\0"  # no header can have this column
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\S+)?)?)?")
_HIGHEST_PITCH = 127


@dataclass(frozen=True)
class Source:
    """Sounds below `folder`, described by `table` (if not given: `metadata.csv` in it, where there is one)."""

    folder: Path
    table: Path | None = None

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`.

        Failures are also one row that names the columns that are not used, and one for each sound
        that no row names. Clips of one file are one group, if the table gives no other.
        """
        folder = existing_folder(self.folder, "your own sounds")
        names = sound_names(folder)
        table = self.table
        if table is None and (folder / _TABLE).is_file():
            table = folder / _TABLE
        yield from _by_folder(folder, names) if table is None else _by_table(folder, table, names)


def _by_folder(folder: Path, names: list[str]) -> Iterator[Recording | Failure]:
    if not names:
        raise SourceError(f"{folder}: no sounds and no {_TABLE}; give the folder in which your sounds lie")
    for name in names:
        parts = PurePosixPath(name).parts
        label = parts[-2].replace("_", " ").strip() if len(parts) > 1 else ""
        path = sound_file(NAME, folder, name, name)
        if isinstance(path, Failure):
            yield path
        elif not label:
            yield Failure(
                NAME, name, f"in no sub-folder that would be its label; move it into one or write {_TABLE}"
            )
        else:
            yield Recording(
                id=name,
                source=NAME,
                sound=FileSound(path),
                file_name=name,
                license="unknown",
                kind="environment",
                labels=(label,),
                group=name,
            )


def _by_table(folder: Path, table: Path, names: list[str]) -> Iterator[Recording | Failure]:
    delimiter = "\t" if table.suffix.lower() in (".tsv", ".txt") else ","
    columns, ignored = _columns(table, delimiter)
    if ignored:
        yield Failure(
            NAME,
            table.name,
            f"columns not used: {', '.join(ignored)}; name them as in docs/corpus-sources.md",
        )
    spelled = {same_name(name): name for name in names}
    unnamed = dict.fromkeys(names)
    ids = Ids(NAME)
    for line, fields in read_rows(table, (), delimiter=delimiter, surplus=_SURPLUS):
        where = f"{table.name} line {line}"
        if fields.get(_SURPLUS, "").strip(f" {delimiter}"):
            yield Failure(
                NAME, where, "more fields than the header has columns; put quotes around text with commas"
            )
            continue
        row = {known: fields.get(name, "") for known, name in columns.items()}
        name = _spelled(folder, row["file"], spelled)
        unnamed.pop(name, None)
        yield _recording(folder, name, row, where, ids)
    for name in unnamed:
        path = sound_file(NAME, folder, name, name)
        cause = f"no row of {table.name} names it; add one, or move the file away"
        yield path if isinstance(path, Failure) else Failure(NAME, name, cause)


def _columns(table: Path, delimiter: str) -> tuple[dict[str, str], list[str]]:
    """The table's own names of the columns that are known here, and the columns that are not."""
    found: dict[str, str] = {}
    ignored = []
    for name in column_names(table, delimiter=delimiter):
        known = name.strip().lower().replace(" ", "_")
        if known in (*_COLUMNS, *_FILE_COLUMNS) and known not in found:
            found[known] = name
        elif name.strip():
            ignored.append(name.strip())
    files = [name for name in _FILE_COLUMNS if name in found]
    if not files:
        raise SourceError(f"{table}: no column file (or {', '.join(_FILE_COLUMNS[1:])}); name one so")
    ignored += [found[name] for name in files[1:]]
    return {"file": found[files[0]]} | {known: found[known] for known in _COLUMNS if known in found}, ignored


def _spelled(folder: Path, name: str, spelled: dict[str, str]) -> str:
    """The path within the folder as it stands on disk, for a name with other letters, `\\` or the whole path."""
    for form in (name, name.replace("\\", "/")):
        whole = Path(os.path.normpath(folder / form))
        tidy = os.path.relpath(whole, os.path.normpath(folder)) if form else ""
        found = spelled.get(same_name(tidy))
        if found:
            return found
    return name


def _recording(folder: Path, name: str, row: dict[str, str], where: str, ids: Ids) -> Recording | Failure:
    if not name:
        return Failure(NAME, where, "names no file; fill in its column")
    path = sound_file(NAME, folder, name, where)
    if isinstance(path, Failure):
        return path
    wrong = _wrong_value(row)
    if wrong:
        return Failure(NAME, where, f"{wrong}; correct the row")
    start, end = as_seconds(row.get("start")) or 0.0, as_seconds(row.get("end"))
    clip = bool(row.get("start") or row.get("end"))
    id = f"{name}#{start}-{'' if end is None else end}" if clip else name
    lists = {column: _parts(row.get(column, "")) for column in _LISTS}
    return ids.given_before(id, where) or Recording(
        id=id,
        source=NAME,
        sound=FileSound(path, start, end),
        file_name=name,
        license=row.get("license") or "unknown",
        kind=_kind(row),
        species=lists["species"] or lists["common_name"],
        common_names=lists["common_name"] if lists["species"] else (),
        background=lists["background"],
        labels=lists["labels"],
        caption=row.get("caption", ""),
        life_stage=row.get("life_stage", ""),
        sex=row.get("sex", ""),
        call_types=lists["call_type"],
        count=int(row["count"]) if row.get("count") else None,
        instrument=row.get("instrument", ""),
        pitch=int(row["pitch"]) if row.get("pitch") else None,
        transcript=row.get("transcript", ""),
        duration=end - start if end is not None else None,
        recordist=row.get("recordist", ""),
        group=row.get("group") or name,
        region=row.get("region", ""),
        date=row.get("date", ""),
        split=row.get("split", ""),
    )


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _wrong_value(row: dict[str, str]) -> str:
    """What is wrong with a row's values, or nothing."""
    times = {column: as_seconds(row.get(column)) for column in ("start", "end")}
    for column, seconds in times.items():
        if row.get(column) and seconds is None:
            return f"{column} {row[column]!r} is no number of seconds"
    if times["end"] is not None and times["end"] <= (times["start"] or 0.0):
        return f"end {row['end']} is not after start {row.get('start') or '0'}"
    species, common = _parts(row.get("species", "")), _parts(row.get("common_name", ""))
    if species and common and len(species) != len(common):
        return f"{len(species)} in species but {len(common)} in common_name"
    count, pitch = row.get("count", ""), row.get("pitch", "")
    if count and not (_is_integer(count) and int(count) >= 1):
        return f"count {count!r} is no whole number of 1 or more"
    if pitch and not (_is_integer(pitch) and int(pitch) <= _HIGHEST_PITCH):
        return f"pitch {pitch!r} is no MIDI note number (0 to {_HIGHEST_PITCH})"
    if row.get("date") and not _DATE.fullmatch(row["date"]):
        return f"date {row['date']!r} is not written like 2021-05-31"
    for column, allowed in (("split", SPLITS), ("kind", get_args(Kind))):
        if row.get(column) and row[column] not in allowed:
            return f"{column} {row[column]!r} is none of {', '.join(allowed)}"
    return ""


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _kind(row: dict[str, str]) -> Kind:
    """The row's kind; where it gives none, the kind of sound that its columns are about."""
    for kind in get_args(Kind):
        if row.get("kind") == kind:
            given: Kind = kind
            return given
    if row.get("species") or row.get("common_name"):
        return "animal"
    if row.get("instrument") or row.get("pitch"):
        return "music"
    return "speech" if row.get("transcript") else "environment"
