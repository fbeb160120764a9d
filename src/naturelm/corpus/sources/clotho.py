"""Clotho: 6,974 sounds of Freesound, 15 to 30 s long, with five captions each (Drossos et al. 2020).

Layout: `clotho_captions_<split>.csv`, `clotho_metadata_<split>.csv` and the folder `<split>` with the
sounds, for the splits development, validation and evaluation (the sounds may also lie in
`clotho_audio_<split>/`, as some programs unpack them).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import Ids, same_name, sound_file, sound_names, without_suffix
from naturelm.corpus.sources.tables import existing_folder, missing_sound, read_rows

NAME = "clotho"
_SPLITS = {"development": "train", "validation": "validation", "evaluation": "test"}
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class Source:
    """The splits of Clotho whose captions lie in `folder`, one or more of the three."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`.

        One recording a caption, its id ending in `/1` to `/5`: five of the same sound, in the group of the
        sound on Freesound that it was cut from. Its keywords, which are its uploader's tags, are not taken.
        """
        folder = existing_folder(self.folder, "Clotho")
        splits = [split for split in _SPLITS if (folder / f"clotho_captions_{split}.csv").is_file()]
        if not splits:
            raise SourceError(f"{folder}: no clotho_captions_development.csv (or validation, evaluation)")
        for split in splits:
            yield from _split_recordings(folder, split)


def _split_recordings(folder: Path, split: str) -> Iterator[Recording | Failure]:
    sounds = _sounds(folder, split)
    about: dict[str, dict[str, str]] = {}
    metadata = folder / f"clotho_metadata_{split}.csv"
    if metadata.is_file():
        # The metadata as published is latin-1: names and makers from all over Freesound.
        about = {
            same_name(row["file_name"]): row
            for _, row in read_rows(metadata, ("file_name", "sound_id", "license"), legacy="latin-1")
        }
    else:
        yield Failure(NAME, metadata.name, "not found: licences and makers are unknown; download it")
    ids = Ids(NAME)
    table = f"clotho_captions_{split}.csv"
    for line, row in read_rows(folder / table, ("file_name", *_CAPTIONS), legacy="latin-1"):
        where = f"{table} line {line}"
        name = sounds.get(same_name(row["file_name"]))
        if not row["file_name"]:
            yield Failure(NAME, where, "nothing in column file_name; correct the row")
        elif name is None:
            yield missing_sound(NAME, f"{split}/{row['file_name']}")
        else:
            failure = ids.given_before(name, where)
            path = failure or sound_file(NAME, folder, name, where)
            if isinstance(path, Failure):
                yield path
                continue
            yield from _captions(row, about.get(same_name(row["file_name"]), {}), split, name, path, where)


def _captions(
    row: dict[str, str], about: dict[str, str], split: str, name: str, path: Path, where: str
) -> Iterator[Recording | Failure]:
    stem = without_suffix(row["file_name"])
    # Sounds that their makers have taken down since have no number there: `Not found`.
    sound_id = about.get("sound_id", "")
    for number, column in enumerate(_CAPTIONS, start=1):
        if not row[column]:
            yield Failure(NAME, where, f"nothing in column {column}; correct the row")
            continue
        yield Recording(
            id=f"{split}/{stem}/{number}",
            source=NAME,
            sound=FileSound(path),
            file_name=name,
            license=about.get("license") or "unknown",
            kind="environment",
            caption=row[column],
            recordist=about.get("manufacturer", ""),
            group=sound_id if sound_id.isdecimal() else f"{split}/{stem}",
            url=about.get("sound_link", "") if sound_id.isdecimal() else "",
            split=_SPLITS[split],
        )


def _sounds(folder: Path, split: str) -> dict[str, str]:
    """Paths within the archive of a split's sounds, by `same_name` of their file's name."""
    return {
        same_name(name.split("/")[-1]): f"{place}/{name}"
        for place in (f"clotho_audio_{split}", split)
        for name in sound_names(folder / place)
    }
