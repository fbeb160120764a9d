"""AudioCaps: captions of 10 s stretches of AudioSet's videos (Kim et al. 2019).

Layout: `dataset/train.csv`, `val.csv`, `test.csv` as in the repository of the captions (or without the
folder), and anywhere below the same folder the sounds, which everyone downloads for themselves, named
in one of the usual ways: `<youtube_id>_<start>.wav`, `Y<youtube_id>.wav`, `<youtube_id>.wav` or
`<audiocap_id>.wav`, in any format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import Ids, as_seconds, by_preference, sound_file, sound_names
from naturelm.corpus.sources.tables import existing_folder, missing_sound, read_rows

NAME = "audiocaps"
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Source:
    """The splits of AudioCaps whose tables lie in `folder`, one or more of the three."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`.

        One recording a caption: the five captions of a clip of val and test are five recordings of the
        same sound, in the group of the video that it was cut from. The captions' licence says nothing
        of the sounds, whose licence is therefore `unknown`.
        """
        folder = existing_folder(self.folder, "AudioCaps")
        tables = {
            split: table
            for split in _SPLITS
            for table in (f"{split}.csv", f"dataset/{split}.csv")
            if (folder / table).is_file()
        }
        if not tables:
            raise SourceError(
                f"{folder}: no dataset/train.csv, val.csv or test.csv; put AudioCaps' tables there"
            )
        sounds: dict[str, list[str]] = {}
        for name in by_preference(sound_names(folder)):
            sounds.setdefault(PurePosixPath(name).stem, []).append(name)
        ids = Ids(NAME)
        for split, table in tables.items():
            columns = ("audiocap_id", "youtube_id", "start_time", "caption")
            for line, row in read_rows(folder / table, columns):
                yield _recording(folder, sounds, split, row, f"{table} line {line}", ids)


def _recording(
    folder: Path, sounds: dict[str, list[str]], split: str, row: dict[str, str], where: str, ids: Ids
) -> Recording | Failure:
    empty = [name for name in ("audiocap_id", "youtube_id", "caption") if not row[name]]
    if empty:
        return Failure(NAME, where, f"nothing in column {', '.join(empty)}; correct the row")
    start = as_seconds(row["start_time"])
    if start is None:
        return Failure(
            NAME, where, f"start_time {row['start_time']!r} is no number of seconds; correct the row"
        )
    video = row["youtube_id"]
    starts = dict.fromkeys((row["start_time"], f"{start:g}", f"{start:.1f}"))
    stems = [f"{prefix}{video}_{text}" for prefix in ("", "Y") for text in starts]
    name = _find(sounds, [*stems, f"Y{video}", video, row["audiocap_id"]], split)
    if name is None:
        return missing_sound(NAME, f"{stems[0]}.wav")
    path = sound_file(NAME, folder, name, where)
    if isinstance(path, Failure):
        return path
    return ids.given_before(row["audiocap_id"], where) or Recording(
        id=row["audiocap_id"],
        source=NAME,
        sound=FileSound(path),
        file_name=name,
        license="unknown",
        kind="environment",
        caption=row["caption"],
        group=video,
        url=f"https://www.youtube.com/watch?v={video}&t={start:.0f}s",
        split=_SPLITS[split],
    )


def _find(sounds: dict[str, list[str]], stems: list[str], split: str) -> str | None:
    """The first of `stems` that there is a file of, of several the one in the split's folder."""
    for stem in stems:
        names = sounds.get(stem, [])
        if names:
            return next((name for name in names if split in name.split("/")[:-1]), names[0])
    return None
