"""ESC-50: 2,000 clips of 5 s in 50 classes of everyday sound (Piczak 2015), CC BY-NC.

Layout: `audio/1-100032-A-0.wav` and `meta/esc50.csv`, as the archive unpacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources.files import Ids, sound_file
from naturelm.corpus.sources.tables import existing_folder, read_rows

NAME = "esc50"
_TABLE = "meta/esc50.csv"


@dataclass(frozen=True)
class Source:
    """ESC-50 as it unpacks."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The fold is not taken as a split: it is for cross-validation."""
        folder = existing_folder(self.folder, "ESC-50")
        ids = Ids(NAME)
        for line, row in read_rows(folder / _TABLE, ("filename", "category", "src_file")):
            yield _recording(folder, row, f"{_TABLE} line {line}", ids)


def _recording(folder: Path, row: dict[str, str], where: str, ids: Ids) -> Recording | Failure:
    empty = [name for name in ("filename", "category", "src_file") if not row[name]]
    if empty:
        return Failure(NAME, where, f"nothing in column {', '.join(empty)}; correct the row")
    file_name = f"audio/{row['filename']}"
    path = sound_file(NAME, folder, file_name, where)
    if isinstance(path, Failure):
        return path
    return ids.given_before(path.stem, where) or Recording(
        id=path.stem,
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license="CC-BY-NC-3.0",
        kind="environment",
        labels=(row["category"].replace("_", " "),),
        duration=5.0,
        group=row["src_file"],
    )
