"""Real recordings that packages carry, as a table in this package names them, each file checked by its content.

Each package is a source of its own, so that a row of the corpus says where its sound is from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import cast

from naturelm.corpus.recordings import Failure, FileSound, Kind, Recording
from naturelm.corpus.sources.tables import read_rows

_WITHOUT = "the corpus is built without it"
_COLUMNS = (
    "package",
    "file",
    "sha256",
    "start",
    "end",
    "kind",
    "species",
    "labels",
    "sex",
    "life_stage",
    "recordist",
    "license",
    "split",
)


@dataclass(frozen=True)
class RecordedSource:
    """Recordings in the unpacked packages."""

    folders: tuple[tuple[str, Path], ...]
    """Package name, and where it was unpacked."""

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `sources.ArchiveSource`."""
        folders = dict(self.folders)
        with as_file(files("naturelm.corpus") / "data" / "starter_recordings.csv") as table:
            for _, row in read_rows(table, _COLUMNS):
                package, name = row["package"], row["file"]
                path = folders[package] / name
                if not path.is_file():
                    yield Failure(package, name, f"not in this version of the package; {_WITHOUT}")
                elif not hashlib.sha256(path.read_bytes()).hexdigest().startswith(row["sha256"]):
                    yield Failure(package, name, f"not the sound that the table was written for; {_WITHOUT}")
                else:
                    yield _recording(row, path)


def _recording(row: dict[str, str], path: Path) -> Recording:
    name, start, end = row["file"], row["start"], row["end"]
    return Recording(
        id=f"{name}@{start}" if start else name,
        source=row["package"],
        sound=FileSound(path, float(start or 0), float(end) if end else None),
        file_name=name,
        license=row["license"],
        kind=cast(Kind, row["kind"]),
        species=tuple(filter(None, row["species"].split(";"))),
        labels=tuple(filter(None, row["labels"].split(";"))),
        sex=row["sex"],
        life_stage=row["life_stage"],
        duration=float(end) - float(start or 0) if end else None,
        recordist=row["recordist"],
        group=name,
        split=row["split"],
    )
