"""Barkley Canyon: marine mammals at a hydrophone of Ocean Networks Canada off Vancouver Island, 2013 to 2015.

Kanes 2020, "Recycling data" (J. Acoust. Soc. Am. 148): 10,905 annotated phonations in five-minute files,
called `ICLISTENHF1251_20130615T062356.061Z.wav` after the hydrophone and the start in UTC. No licence is
stated.

Assumed, from how others read the published table (`BarkleyCanyonAnnotations_Public_Final.csv`), not from
a description by its author:

- columns `Soundfile`, `Left time (sec)`, `Right time (sec)`, `Species`, and optionally `Call Type` and
  `Ecotype`; punctuation and case of their names do not matter;
- species are the initials of genus and epithet (`Mn`), alternatives joined by `|` (`Oo|Lo`), and two
  capitals where only a group could be told, of which `MY`, `OD`, `DE` and `CE` are read as Mysticeti,
  Odontoceti, Delphinidae and Cetacea, the others as unidentified; full names are taken as they are.

The sounds lie anywhere below the folder. All files of one hydrophone and day are one group: animals stay.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from naturelm.corpus.recordings import Event, Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.fields import index_sounds, listed_words, plain_rows
from naturelm.corpus.sources.files import Ids, as_seconds, same_name, without_suffix
from naturelm.corpus.sources.tables import existing_folder

NAME = "barkley-canyon"

UNIDENTIFIED = "unidentified"
"""Label of events whose taxon could not be told, or is one of several."""

_CODES = {
    "Bm": "Balaenoptera musculus",
    "Bp": "Balaenoptera physalus",
    "Gg": "Grampus griseus",
    "Lo": "Lagenorhynchus obliquidens",
    "Mn": "Megaptera novaeangliae",
    "Oo": "Orcinus orca",
    "Pm": "Physeter macrocephalus",
    "CE": "Cetacea",
    "DE": "Delphinidae",
    "MY": "Mysticeti",
    "OD": "Odontoceti",
    "AN": UNIDENTIFIED,
    "BA": UNIDENTIFIED,
    "NN": UNIDENTIFIED,
    "UN": UNIDENTIFIED,
}
_GROUPS = {"Cetacea", "Delphinidae", "Mysticeti", "Odontoceti"}
_NAME_OF_TAXON = re.compile(r"[A-Z][a-z]{2,}(?: [a-z-]{2,})*")
_START = re.compile(r"_(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})")


@dataclass(frozen=True)
class Source:
    """The hydrophone's files and their annotations."""

    folder: Path
    annotations: Path | None = None
    """The table of annotations; None: the only `*.csv` in the folder."""

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. One recording for each sound file, with all of its events."""
        folder = existing_folder(self.folder, "Barkley Canyon")
        table = self.annotations or _only_table(folder)
        files: dict[str, _Annotations] = {}
        yield from _read_annotations(table, files)
        index, ids = index_sounds(folder), Ids(NAME)
        for name in sorted(files):
            found = index.find(NAME, name)
            if isinstance(found, Failure):
                yield found
            else:
                yield ids.given_before(without_suffix(name), name) or _recording(
                    FileSound(found.path), found.file_name, name, files[name]
                )
        annotated = {index.key(name) for name in files}
        for key in sorted(index.names.keys() - annotated):
            cause = f"no row of {table.name} names it, so what is heard is not known; take it out"
            yield Failure(NAME, index.names[key][0], cause)


@dataclass(frozen=True)
class _Annotations:
    """What the table says of one file."""

    events: list[Event] = field(default_factory=list)
    call_types: list[str] = field(default_factory=list)


def _only_table(folder: Path) -> Path:
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise SourceError(
            f"{folder}: has to hold one table of annotations as *.csv, but holds {found}; name it"
        )
    return tables[0]


def _read_annotations(table: Path, files: dict[str, _Annotations]) -> Iterator[Failure]:
    """Fills `files` by name of sound file; gives what is wrong with rows."""
    for line, row in plain_rows(table, ("Soundfile", "Left time (sec)", "Right time (sec)", "Species")):
        where = f"{table.name} line {line}"
        name = same_name(row["soundfile"])
        if not name:
            yield Failure(NAME, where, "names no sound file; correct the row")
            continue
        about = files.setdefault(name, _Annotations())
        start, end = as_seconds(row["lefttimesec"]), as_seconds(row["righttimesec"])
        if start is None or end is None or end <= start:
            yield Failure(NAME, where, "does not end after it starts; correct its times")
            continue
        label = _taxon(row["species"])
        if label is None:
            # The event stays, as unidentified: without it, the stretch would count as silence.
            species = row["species"] or "an empty field"
            yield Failure(NAME, where, f"{species} is no known species code; write the scientific name")
        about.events.append(Event(start, end, label or UNIDENTIFIED))
        about.call_types.extend(listed_words(row.get("calltype", "")))


def _taxon(text: str) -> str | None:
    """Scientific name; UNIDENTIFIED for what annotators could not tell; None for what is not understood."""
    if "|" in text:
        known = [_taxon(each) for each in listed_words(text, "|")]
        return None if None in known or not known else UNIDENTIFIED
    return _CODES.get(text) or (text if _NAME_OF_TAXON.fullmatch(text) else None)


def _recording(sound: FileSound, file_name: str, name: str, about: _Annotations) -> Recording | Failure:
    events = sorted(about.events, key=lambda event: (event.start, event.end, event.label))
    taxa = dict.fromkeys(event.label for event in events if event.label != UNIDENTIFIED)
    species = tuple(taxon for taxon in taxa if taxon not in _GROUPS) or tuple(taxa)
    if not species:
        return Failure(NAME, file_name, "has no event of a known taxon; correct its rows in the table")
    start = _START.search(name)
    return Recording(
        id=without_suffix(name),
        source=NAME,
        sound=sound,
        file_name=file_name,
        license="unknown",
        species=species,
        background=tuple(taxon for taxon in taxa if taxon not in species),
        # Of a file with several species, the table's call types belong to one or the other.
        call_types=tuple(dict.fromkeys(about.call_types)) if len(taxa) == 1 else (),
        events=tuple(events),
        group=name[: start.start() + 9] if start else name,
        region="Canada",
        date="{}-{}-{}T{}:{}:{}Z".format(*start.groups()) if start else "",
    )
