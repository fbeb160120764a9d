"""ESC-50: 2,000 clips of 5 s in 50 classes of everyday sound (Piczak 2015), CC BY-NC.

Layout: `audio/1-100032-A-0.wav` and `meta/esc50.csv`, as the archive unpacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources.tables import existing_folder, inside, missing_sound, read_rows

NAME = "esc50"


@dataclass(frozen=True)
class Source:
    """ESC-50 as it unpacks."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The fold is not taken as a split: it is for cross-validation."""
        folder = existing_folder(self.folder, "ESC-50")
        rows = read_rows(folder / "meta" / "esc50.csv", ("filename", "category", "src_file"))
        for line, row in rows:
            file_name = f"audio/{row['filename']}"
            path = inside(folder, file_name)
            if path is None or not row["filename"]:
                yield Failure(
                    NAME, f"meta/esc50.csv line {line}", "names no file of the archive; correct the row"
                )
            elif not path.is_file():
                yield missing_sound(NAME, file_name)
            else:
                yield Recording(
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
