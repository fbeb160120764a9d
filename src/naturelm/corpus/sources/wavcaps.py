"""WavCaps: 403,050 sounds of FreeSound, BBC, SoundBible and AudioSet, captions by a language model.

(Mei et al. 2023.) Layout: `json_files/<Part>/*.json`, and the sounds `<Part>_flac/<id>.flac` anywhere
below the same folder: the zip files unpack them into `mnt/fast/.../waveforms/<Part>_flac`. A folder
that is called just `<Part>` and other formats than FLAC are found as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import (
    Ids,
    as_seconds,
    as_text,
    by_preference,
    read_json,
    sound_file,
    sound_names,
    without_suffix,
)
from naturelm.corpus.sources.tables import existing_folder, inside, missing_sound

NAME = "wavcaps"
_TABLES = "json_files"
_LISTS = "blacklist"
# The entries of fsd_final.json that are at least two seconds long, once more.
_EXCERPTS = {"fsd_final_2s.json": "fsd_final.json"}


@dataclass(frozen=True)
class Source:
    """The parts of WavCaps whose tables lie in `folder`."""

    folder: Path
    leave_out: tuple[str, ...] = ()
    """Names of lists in `json_files/blacklist` of what test sets hold, such as
    `blacklist_exclude_ub8k_esc50_vggsound.json`: what they name is not taken, and is said to be left out."""

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The original sites' tags, titles and descriptions are not taken."""
        folder = existing_folder(self.folder, "WavCaps")
        tables = {
            part.name: sorted(part.glob("*.json"))
            for part in sorted(existing_folder(folder / _TABLES, "WavCaps' tables").iterdir())
            if part.is_dir() and part.name != _LISTS
        }
        if not any(tables.values()):
            raise SourceError(f"{folder / _TABLES}: no <Part>/*.json; download WavCaps' tables there")
        left_out = self._left_out(folder)
        sounds = _sounds(folder, set(tables))
        ids = Ids(NAME)
        for part, paths in tables.items():
            names = {path.name for path in paths}
            for path in paths:
                if _EXCERPTS.get(path.name) not in names:
                    yield from _entries(folder, part, path, sounds, left_out, ids)

    def _left_out(self, folder: Path) -> dict[tuple[str, str], str]:
        """Lists by what they leave out: a part (`AudioSet`, `FreeSound`) and an id."""
        left_out: dict[tuple[str, str], str] = {}
        for name in self.leave_out:
            path = inside(folder / _TABLES / _LISTS, name)
            if path is None:
                raise SourceError(f"{name}: leads out of {_TABLES}/{_LISTS}; give the name of a list there")
            parts = read_json(path, "WavCaps")
            if not isinstance(parts, dict) or not all(isinstance(ids, list) for ids in parts.values()):
                raise SourceError(f"{path}: holds no lists of ids by part; download it again")
            for part, ids in parts.items():
                left_out |= {(part, without_suffix(as_text(id))): name for id in ids}
        return left_out


def _entries(
    folder: Path,
    part: str,
    table: Path,
    sounds: dict[tuple[str, str], str],
    left_out: dict[tuple[str, str], str],
    ids: Ids,
) -> Iterator[Recording | Failure]:
    content = read_json(table, "WavCaps")
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise SourceError(f"{table}: has no list `data`; download it again")
    for number, entry in enumerate(entries, start=1):
        where = f"{_TABLES}/{part}/{table.name} entry {number}"
        id = without_suffix(as_text(entry.get("id"))) if isinstance(entry, dict) else ""
        # The lists say AudioSet where the folder is AudioSet_SL.
        listed = left_out.get((part, id)) or left_out.get((part.removesuffix("_SL"), id))
        if not isinstance(entry, dict) or not id or not as_text(entry.get("caption")):
            yield Failure(NAME, where, "has no id or no caption; correct the entry")
        elif listed:
            yield Failure(NAME, where, f"left out: {id} is on the list {listed}")
        else:
            yield _recording(folder, part, id, entry, sounds, where, ids)


def _recording(
    folder: Path,
    part: str,
    id: str,
    entry: dict[str, object],
    sounds: dict[tuple[str, str], str],
    where: str,
    ids: Ids,
) -> Recording | Failure:
    name = sounds.get((part, id)) or sounds.get((part, without_suffix(as_text(entry.get("audio")))))
    if name is None:
        return missing_sound(NAME, f"{part}_flac/{id}.flac")
    path = sound_file(NAME, folder, name, where)
    if isinstance(path, Failure):
        return path
    return ids.given_before(f"{part}/{id}", where) or Recording(
        id=f"{part}/{id}",
        source=NAME,
        sound=FileSound(path),
        file_name=name,
        license=as_text(entry.get("license")) or "academic use only",
        kind="environment",
        caption=as_text(entry.get("caption")),
        duration=as_seconds(entry.get("duration")) or None,
        recordist=as_text(entry.get("author")),
        group=f"{part}/{id}",
        url=as_text(entry.get("href")) or as_text(entry.get("download_link")),
    )


def _sounds(folder: Path, parts: set[str]) -> dict[tuple[str, str], str]:
    """Paths within the archive of all sounds, by part and by the file's name without its suffix."""
    sounds: dict[tuple[str, str], str] = {}
    for name in by_preference(sound_names(folder)):
        *folders, file = name.split("/")
        for part in {place.removesuffix("_flac") for place in folders} & parts:
            sounds.setdefault((part, without_suffix(file)), name)
    return sounds
