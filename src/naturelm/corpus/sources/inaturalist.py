"""iNaturalist: sounds of research-grade observations, each under the licence of its observer.

Either of two layouts; sounds are never fetched:

- the Darwin Core archive: `observations.csv` and `media.csv` (`meta.xml` beside them is used where it is
  there), and the sounds anywhere below the folder, called as their address ends
  (`https://static.inaturalist.org/sounds/12345.m4a?1598` is `12345.m4a`, or converted, `12345.flac`);
- iNatSounds 2024 (Chasmai et al., NeurIPS 2024): `train.json`, `val.json`, `test.json` with `audio`,
  `categories`, `annotations` and `licenses`, and the sounds as `train/<category>/<name>.wav`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.darwin_core import (
    Archive,
    SoundName,
    SoundRow,
    header_table,
    read_archive,
    sound_recordings,
)
from naturelm.corpus.sources.fields import address_name, index_sounds, iso_date
from naturelm.corpus.sources.files import Ids, as_seconds, as_text, read_json, sound_file
from naturelm.corpus.sources.tables import existing_folder

NAME = "inaturalist"

_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Source:
    """A folder of iNaturalist sounds with their metadata."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The group is the observation, which can have several sounds."""
        folder = existing_folder(self.folder, "iNaturalist")
        splits = [name for name in _SPLITS if (folder / f"{name}.json").is_file()]
        if (folder / "meta.xml").is_file():
            archive = read_archive(folder, "iNaturalist")
            yield from sound_recordings(archive, index_sounds(folder), NAME, _sound_name)
        elif (folder / "observations.csv").is_file():
            observations = header_table(folder / "observations.csv", ("id", "catalogNumber"), "iNaturalist")
            media = header_table(folder / "media.csv", ("coreid", "id"), "iNaturalist")
            archive = Archive(observations, media)
            yield from sound_recordings(archive, index_sounds(folder), NAME, _sound_name)
        elif splits:
            for split in splits:
                yield from _inat_sounds(folder, split)
        else:
            raise SourceError(f"{folder}: neither observations.csv nor train.json; unpack the archive there")


def _sound_name(row: SoundRow) -> SoundName | None:
    name = address_name(row.address)
    return SoundName(PurePosixPath(name).stem, name, group=row.occurrence_id) if name else None


def _inat_sounds(folder: Path, split: str) -> Iterator[Recording | Failure]:
    table = f"{split}.json"
    content = read_json(folder / table, "iNatSounds")
    categories = _by_id(folder / table, content, "categories")
    licenses = _by_id(folder / table, content, "licenses")
    category_of = {
        as_text(each.get("audio_id")): as_text(each.get("category_id"))
        for each in _entries(folder / table, content, "annotations")
    }
    ids = Ids(NAME)
    for number, audio in enumerate(_entries(folder / table, content, "audio"), start=1):
        row = f"{table} audio {number}"
        id, file_name = as_text(audio.get("id")), as_text(audio.get("file_name"))
        category = categories.get(category_of.get(id, ""), {})
        if not id or not file_name:
            yield Failure(NAME, row, "has no id or no file_name; download the file again")
        elif not as_text(category.get("name")):
            yield Failure(NAME, row, f"{id} has no annotation with a named category; correct the annotations")
        else:
            license = licenses.get(as_text(audio.get("license")), {})
            yield ids.given_before(id, row) or _recording(folder, split, row, audio, category, license)


def _recording(
    folder: Path,
    split: str,
    row: str,
    audio: dict[str, object],
    category: dict[str, object],
    license: dict[str, object],
) -> Recording | Failure:
    file_name = as_text(audio.get("file_name"))
    if not file_name.startswith(f"{split}/"):
        file_name = f"{split}/{file_name}"
    path = sound_file(NAME, folder, file_name, row)
    if isinstance(path, Failure):
        return path
    common_name = as_text(category.get("common_name"))
    return Recording(
        id=f"{split}/{as_text(audio.get('id'))}",  # ids are counted anew in each split
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license=as_text(license.get("url")) or as_text(license.get("name")) or "unknown",
        species=(as_text(category.get("name")),),
        common_names=(common_name,) if common_name else (),
        duration=as_seconds(audio.get("duration")),
        recordist=as_text(audio.get("rights_holder")),
        date=iso_date(as_text(audio.get("date"))),
        split=_SPLITS[split],
    )


def _entries(path: Path, content: object, name: str) -> list[dict[str, object]]:
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise SourceError(f"{path}: has no list of {name}; download it again")
    return entries


def _by_id(path: Path, content: object, name: str) -> dict[str, dict[str, object]]:
    return {as_text(each.get("id")): each for each in _entries(path, content, name)}
