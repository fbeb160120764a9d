"""Xeno-canto: wildlife sounds shared by recordists (xeno-canto.org), each under a Creative Commons licence.

Either of two layouts; sounds are `XC<number>` with or without words after it (`XC76967 - Great Tit.mp3`),
anywhere below the folder:

- answers of the API, versions 2 and 3, saved as `*.json`: `{"recordings": [{"id", "gen", "sp", ...}]}`;
- the Darwin Core archive that is published to GBIF, unpacked, with its `meta.xml`.

The API's `length` is rounded to whole seconds, so it is not taken for the duration.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.darwin_core import SoundName, SoundRow, read_archive, sound_recordings
from naturelm.corpus.sources.fields import SoundIndex, index_sounds, iso_date, listed_words, web_address
from naturelm.corpus.sources.files import Ids, as_text, read_json
from naturelm.corpus.sources.tables import existing_folder

NAME = "xeno-canto"

_FILE = re.compile(r"XC([0-9]{1,18})(?![0-9])", re.IGNORECASE)
_CATALOGUE = re.compile(r"(?:XC|xeno-canto\.org/(?:sound/)?)([0-9]{1,18})(?![0-9])", re.IGNORECASE)
# Genera under which recordings are filed that are not of one animal: not yet identified, and soundscapes.
_NO_SPECIES = {"mystery", "sonus"}


@dataclass(frozen=True)
class Source:
    """A folder of Xeno-canto recordings with their metadata."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`."""
        folder = existing_folder(self.folder, "Xeno-canto")
        if (folder / "meta.xml").is_file():
            archive = read_archive(folder, "Xeno-canto")
            yield from sound_recordings(archive, index_sounds(folder, _number), NAME, _sound_name)
            return
        answers = sorted(path for path in folder.rglob("*.json") if path.is_file())
        if not answers:
            raise SourceError(f"{folder}: neither meta.xml nor *.json; save the API's answers there")
        index = index_sounds(folder, _number)
        ids = Ids(NAME)
        for answer in answers:
            yield from _answer(answer, answer.relative_to(folder).as_posix(), index, ids)


def _number(file_name: str) -> str:
    match = _FILE.match(file_name)
    return str(int(match[1])) if match else ""


def _sound_name(row: SoundRow) -> SoundName | None:
    for text in (
        row.occurrence.get("catalogNumber", ""),
        row.occurrence.get("occurrenceID", ""),
        row.occurrence_id,
        row.address,
    ):
        match = _CATALOGUE.search(text)
        if match:
            return SoundName(match[1], f"XC{match[1]}.mp3")
    return None


def _answer(path: Path, name: str, index: SoundIndex, ids: Ids) -> Iterator[Recording | Failure]:
    try:
        answer = read_json(path, "Xeno-canto")
    except SourceError as error:  # one page of many: the others are still good
        yield Failure(NAME, name, str(error))
        return
    rows = answer.get("recordings") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        yield Failure(
            NAME, name, "has no list of recordings, so is no answer of the API; take it out of the folder"
        )
        return
    for number, fields in enumerate(rows, start=1):
        row = f"{name} recording {number}"
        id = as_text(fields.get("id")) if isinstance(fields, dict) else ""
        if not isinstance(fields, dict) or not re.fullmatch("[0-9]{1,18}", id):
            yield Failure(NAME, row, "has no catalogue number as its id; save the API's answer again")
        elif not _species(fields):
            yield Failure(NAME, row, f"XC{id} is of no named species; take it out of the answer")
        else:
            yield ids.given_before(id, row) or _recording(id, fields, index)


def _species(fields: dict[str, object]) -> str:
    genus, epithet = as_text(fields.get("gen")), as_text(fields.get("sp"))
    return f"{genus} {epithet}" if genus and epithet and genus.casefold() not in _NO_SPECIES else ""


def _recording(id: str, fields: dict[str, object], index: SoundIndex) -> Recording | Failure:
    sound = index.find(NAME, f"XC{id}.mp3")
    if isinstance(sound, Failure):
        return sound
    common_name = as_text(fields.get("en"))
    also = fields.get("also")
    background = [as_text(name) for name in also] if isinstance(also, list) else []
    return Recording(
        id=id,
        source=NAME,
        sound=FileSound(sound.path),
        file_name=sound.file_name,
        license=web_address(as_text(fields.get("lic"))) or "unknown",
        species=(_species(fields),),
        common_names=(common_name,) if common_name else (),
        background=tuple(dict.fromkeys(name for name in background if name)),
        life_stage=as_text(fields.get("stage")),
        sex=as_text(fields.get("sex")),
        call_types=listed_words(as_text(fields.get("type"))),
        recordist=as_text(fields.get("rec")),
        region=as_text(fields.get("cnt")),
        date=iso_date(as_text(fields.get("date"))),
        url=web_address(as_text(fields.get("url"))),
    )
