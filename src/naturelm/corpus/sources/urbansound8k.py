"""UrbanSound8K: 8,732 clips of up to 4 s in 10 classes of city sound (Salamon et al. 2014), CC BY-NC.

Layout: `audio/fold1/100032-3-0-0.wav` and `metadata/UrbanSound8K.csv`, as the archive unpacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources.files import Ids, as_seconds, sound_file
from naturelm.corpus.sources.tables import existing_folder, read_rows

NAME = "urbansound8k"
_TABLE = "metadata/UrbanSound8K.csv"


@dataclass(frozen=True)
class Source:
    """UrbanSound8K as it unpacks."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The fold is not taken as a split: it is for cross-validation."""
        folder = existing_folder(self.folder, "UrbanSound8K")
        ids = Ids(NAME)
        columns = ("slice_file_name", "fsID", "start", "end", "fold", "class")
        for line, row in read_rows(folder / _TABLE, columns):
            yield _recording(folder, row, f"{_TABLE} line {line}", ids)


def _recording(folder: Path, row: dict[str, str], where: str, ids: Ids) -> Recording | Failure:
    empty = [name for name in ("slice_file_name", "fold", "class", "fsID") if not row[name]]
    if empty:
        return Failure(NAME, where, f"nothing in column {', '.join(empty)}; correct the row")
    file_name = f"audio/fold{row['fold']}/{row['slice_file_name']}"
    path = sound_file(NAME, folder, file_name, where)
    if isinstance(path, Failure):
        return path
    start, end = as_seconds(row["start"]), as_seconds(row["end"])
    return ids.given_before(path.stem, where) or Recording(
        id=path.stem,
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license="CC-BY-NC-3.0",
        kind="environment",
        labels=(row["class"].replace("_", " "),),
        duration=end - start if start is not None and end is not None and end > start else None,
        group=row["fsID"],
        url=f"https://freesound.org/s/{row['fsID']}/",
    )
