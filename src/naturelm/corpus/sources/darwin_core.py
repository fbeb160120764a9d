"""Darwin Core archives: occurrences and the sounds that belong to them.

The layout is that of the Darwin Core Text Guide (TDWG): `meta.xml` names the files, how they are
delimited, and which column holds which term. Sounds are rows of an extension with simple or Audubon
Core multimedia; each names its occurrence by the occurrence's id.
"""

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.fields import (
    SoundIndex,
    address_name,
    iso_date,
    listed_words,
    web_address,
    whole_number,
)
from naturelm.corpus.sources.files import Ids, is_sound_name
from naturelm.corpus.sources.tables import column_names, existing_file, inside

_TEXT = "{http://rs.tdwg.org/dwc/text/}"
_LARGEST_META = 1 << 20  # bytes; real ones have a few thousand
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\r\n"}


@dataclass(frozen=True)
class Table:
    """A core or extension file."""

    path: Path
    row_type: str
    key: int
    """Column of the occurrence's id."""
    terms: Mapping[int, str]
    """Term by column, without its namespace: `scientificName`."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Terms that are the same in every row."""
    delimiter: str = ","
    quote: str = '"'
    """Empty: fields are not quoted."""
    header_lines: int = 1
    encoding: str = "utf-8"

    def rows(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Line number, occurrence's id and terms of each row.

        Raises SourceError for a missing file, an encoding that it is not in, or a field that never ends.
        """
        existing_file(self.path, "the archive")
        encoding = "utf-8-sig" if self.encoding.casefold() in ("utf-8", "utf8", "") else self.encoding
        try:
            with self.path.open(encoding=encoding, newline="") as file:
                if self.quote:
                    reader = csv.reader(file, delimiter=self.delimiter, quotechar=self.quote)
                else:
                    reader = csv.reader(file, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
                for number, cells in enumerate(reader):
                    if number < self.header_lines or not cells:
                        continue
                    key = cells[self.key].strip() if self.key < len(cells) else ""
                    given = {
                        term: cells[column].strip()
                        for column, term in self.terms.items()
                        if column < len(cells) and cells[column].strip()
                    }
                    yield reader.line_num, key, {**self.defaults, **given}
        except UnicodeError as error:
            raise SourceError(f"{self.path}: not {self.encoding} text; save it as UTF-8") from error
        except (LookupError, csv.Error, TypeError, ValueError) as error:
            raise SourceError(f"{self.path}: cannot be read as a table ({error}); unpack it again") from error


@dataclass(frozen=True)
class Archive:
    """Occurrences, and the media that belong to them."""

    occurrences: Table
    media: Table


@dataclass(frozen=True)
class SoundRow:
    """A sound and the occurrence that it belongs to; terms that are not given are missing."""

    where: str
    """The media file and line."""
    occurrence_id: str
    occurrence: Mapping[str, str]
    media: Mapping[str, str]

    @property
    def address(self) -> str:
        """Where the sound was published: `accessURI` in Audubon Core, else `identifier`."""
        return self.media.get("accessURI") or self.media.get("identifier", "")


@dataclass(frozen=True)
class SoundName:
    """What a source calls the sound of a row."""

    id: str
    file_name: str
    """Looked up in the index of sounds."""
    group: str = ""


def read_archive(folder: Path, archive: str) -> Archive:
    """The archive whose `meta.xml` lies in `folder`; SourceError if that cannot be used."""
    meta = existing_file(folder / "meta.xml", archive)
    root = _parse(meta)
    core = root.find(f"{_TEXT}core")
    media = next(
        (each for each in root.findall(f"{_TEXT}extension") if _is_media(each.get("rowType", ""))), None
    )
    if core is None:
        raise SourceError(f"{meta}: has no core; give the folder in which {archive} was unpacked")
    if media is None:
        raise SourceError(f"{meta}: has no multimedia extension; download {archive} with its media")
    return Archive(_table(meta, core, "id"), _table(meta, media, "coreid"))


def header_table(path: Path, keys: tuple[str, ...], archive: str) -> Table:
    """A comma-separated file whose header names the terms; `keys` are names that the id may have."""
    header = [name.strip() for name in column_names(existing_file(path, archive))]
    key = next((name for name in keys if name in header), None)
    if key is None:
        found = ", ".join(header) or "nothing"
        raise SourceError(f"{path}: no column {' or '.join(keys)}; its header has: {found}")
    return Table(path, "", header.index(key), dict(enumerate(header)))


def sound_rows(archive: Archive, source: str) -> Iterator[SoundRow | Failure]:
    """Every sound with its occurrence, in the order of occurrences; failures for those without one.

    Holds the rows of the sounds in memory, not the occurrences: of those an archive has many more.
    """
    sounds: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for line, key, media in archive.media.rows():
        if _is_sound(media):
            sounds.setdefault(key, []).append((f"{archive.media.path.name} line {line}", media))
    for _, key, occurrence in archive.occurrences.rows():
        for where, media in sounds.pop(key, ()):
            yield SoundRow(where, key, occurrence, media)
    for key, rows in sounds.items():
        for where, _ in rows:
            cause = (
                f"belongs to {key or 'no occurrence'}, which {archive.occurrences.path.name} does not have"
            )
            yield Failure(source, where, f"{cause}; take the row out or download the archive again")


def sound_recordings(
    archive: Archive, index: SoundIndex, source: str, name: Callable[[SoundRow], SoundName | None]
) -> Iterator[Recording | Failure]:
    """Recordings of a Darwin Core archive. name: what a row's sound is called; None if it names none."""
    ids = Ids(source)
    for row in sound_rows(archive, source):
        if isinstance(row, Failure):
            yield row
            continue
        named = name(row)
        if named is None or not named.id:
            yield Failure(source, row.where, "names no sound file; correct the row's identifier")
        elif not _species(row.occurrence):
            yield Failure(
                source, row.where, f"{named.id} has no species; give its occurrence a scientificName"
            )
        else:
            yield ids.given_before(named.id, row.where) or _recording(row, named, index, source)


def _recording(row: SoundRow, named: SoundName, index: SoundIndex, source: str) -> Recording | Failure:
    sound = index.find(source, named.file_name)
    if isinstance(sound, Failure):
        return sound
    terms, media = row.occurrence, row.media
    common_name = terms.get("vernacularName", "")
    return Recording(
        id=named.id,
        source=source,
        sound=FileSound(sound.path),
        file_name=sound.file_name,
        license=web_address(media.get("license") or terms.get("license", "")) or "unknown",
        species=(_species(terms),),
        common_names=(common_name,) if common_name else (),
        background=_background(terms),
        life_stage=terms.get("lifeStage", ""),
        sex=terms.get("sex", ""),
        call_types=listed_words(terms.get("behavior") or terms.get("behaviour", "")),
        count=whole_number(terms.get("individualCount", "")),
        recordist=terms.get("recordedBy") or media.get("creator", ""),
        group=named.group,
        region=terms.get("country") or terms.get("countryCode") or terms.get("locality", ""),
        date=iso_date(terms.get("eventDate") or media.get("created", "")),
        url=terms.get("references") or media.get("references") or row.address,
    )


def _species(terms: Mapping[str, str]) -> str:
    """Genus and epithet where they are given, else the scientific name without its author."""
    genus, epithet = terms.get("genus", ""), terms.get("specificEpithet", "")
    if genus and epithet:
        return f"{genus} {epithet}"
    author = terms.get("scientificNameAuthorship", "")
    name = terms.get("scientificName", "")
    return name.removesuffix(author).strip(" ,(") if author else name


def _background(terms: Mapping[str, str]) -> tuple[str, ...]:
    """Taxa of `associatedTaxa`, each without the relation that may stand before it (`heard with: ...`)."""
    names = (name.rpartition(":")[2].strip() for name in listed_words(terms.get("associatedTaxa", "")))
    return tuple(dict.fromkeys(name for name in names if name))


def _is_media(row_type: str) -> bool:
    return row_type.casefold().endswith(("/multimedia", "/audiovisual"))


def _is_sound(media: Mapping[str, str]) -> bool:
    kind, form = media.get("type", "").casefold(), media.get("format", "").casefold()
    if kind or form:
        return "sound" in kind or "audio" in form
    address = media.get("accessURI") or media.get("identifier", "")
    return is_sound_name(address_name(address))


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type: it can declare entities that expand without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise SourceError(
            "has a DOCTYPE, which a Darwin Core meta.xml never needs; do not trust this archive"
        )


def _parse(meta: Path) -> ET.Element:
    if meta.stat().st_size > _LARGEST_META:
        raise SourceError(f"{meta}: larger than 1 MiB, so no Darwin Core meta.xml; unpack the archive again")
    parser = ET.XMLParser(target=_NoDoctype())
    try:
        parser.feed(meta.read_bytes())
        root: ET.Element = parser.close()
    except SourceError as error:
        raise SourceError(f"{meta}: {error}") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        raise SourceError(f"{meta}: not well-formed XML ({error}); unpack the archive again") from error
    return root


def _table(meta: Path, element: ET.Element, key: str) -> Table:
    locations = [(each.text or "").strip() for each in element.findall(f"{_TEXT}files/{_TEXT}location")]
    path = inside(meta.parent, locations[0]) if len(locations) == 1 and locations[0] else None
    if path is None:
        named = ", ".join(locations) or "no file"
        raise SourceError(
            f"{meta}: a table is in {named}, but must be in one file of the archive; correct it"
        )
    row_type = element.get("rowType", "")
    id_element = element.find(f"{_TEXT}{key}")
    if id_element is None:
        raise SourceError(f"{meta}: {path.name} has no <{key}>; download the archive again")
    terms: dict[int, str] = {}
    defaults: dict[str, str] = {}
    for each in element.findall(f"{_TEXT}field"):
        term = each.get("term", "").replace("#", "/").rpartition("/")[2]
        if each.get("index") is not None:
            terms[_index(meta, each.get("index", ""))] = term
        if each.get("default"):
            defaults[term] = each.get("default", "")
    return Table(
        path=path,
        row_type=row_type,
        key=_index(meta, id_element.get("index", "")),
        terms=terms,
        defaults=defaults,
        delimiter=_character(element.get("fieldsTerminatedBy", ",")),
        quote=_character(element.get("fieldsEnclosedBy", '"')),
        header_lines=_index(meta, element.get("ignoreHeaderLines", "0") or "0"),
        encoding=element.get("encoding", "utf-8"),
    )


def _character(text: str) -> str:
    return _ESCAPES.get(text, text)


def _index(meta: Path, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise SourceError(f"{meta}: {text!r} is no column or line number; download the archive again")
    return int(text)
