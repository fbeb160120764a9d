"""Sapsucker Woods: 285 hours of soundscape from Ithaca, New York, 50,760 annotated sounds of 81 bird species.

Kahl et al. 2022, "A collection of fully-annotated soundscape recordings from the Northeastern United
States" (Zenodo 7079380), CC BY 4.0. Layout: `soundscape_data/SSW_001_20170225_010000Z.flac`,
`annotations.csv` (seconds into the file, `????` for a bird that could not be told) and `species.csv`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Event, Failure, FileSound, Recording
from naturelm.corpus.sources.fields import plain_rows
from naturelm.corpus.sources.files import Ids, as_seconds, same_name, sound_file, sound_names, without_suffix
from naturelm.corpus.sources.tables import existing_folder

NAME = "sapsucker-woods"

UNIDENTIFIED = "unidentified"
"""Label of events whose species the annotators could not tell: they are no silence either."""

_UNKNOWN_CODE = "????"
_START = re.compile(r"_(\d{4})(\d{2})(\d{2})_(\d{2})(\d{2})(\d{2})Z")


@dataclass(frozen=True)
class _Species:
    scientific_name: str
    common_name: str


@dataclass(frozen=True)
class Source:
    """The collection as it unpacks."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. One recording for each hour, with all of its events."""
        folder = existing_folder(self.folder, "Sapsucker Woods")
        species: dict[str, _Species] = {}
        for line, row in plain_rows(
            folder / "species.csv", ("Species eBird Code", "Common Name", "Scientific Name")
        ):
            code = row["speciesebirdcode"]
            if code and row["scientificname"]:
                species[code] = _Species(row["scientificname"], row["commonname"])
            else:
                yield Failure(
                    NAME, f"species.csv line {line}", "has no code or no scientific name; fill it in"
                )
        events: dict[str, list[Event]] = {}
        yield from _read_events(folder, species, events)
        ids = Ids(NAME)
        for name in sorted(events):
            yield ids.given_before(without_suffix(name), name) or _recording(
                folder, name, events[name], species
            )
        for file_name in sound_names(folder / "soundscape_data"):
            if same_name(Path(file_name).name) not in events:
                cause = "no row of annotations.csv names it, so what is heard is not known; take it out"
                yield Failure(NAME, f"soundscape_data/{file_name}", cause)


def _read_events(
    folder: Path, species: dict[str, _Species], events: dict[str, list[Event]]
) -> Iterator[Failure]:
    """Fills `events` by file name; gives what is wrong with rows."""
    columns = ("Filename", "Start Time (s)", "End Time (s)", "Species eBird Code")
    for line, row in plain_rows(folder / "annotations.csv", columns):
        where = f"annotations.csv line {line}"
        name = same_name(row["filename"])
        if not name:
            yield Failure(NAME, where, "names no file; correct the row")
            continue
        found = events.setdefault(name, [])
        start, end, code = as_seconds(row["starttimes"]), as_seconds(row["endtimes"]), row["speciesebirdcode"]
        if start is None or end is None or end <= start:
            yield Failure(NAME, where, "does not end after it starts; correct its times")
            continue
        if code not in species and code != _UNKNOWN_CODE:
            # The event stays, as unidentified: without it, the stretch would count as silence.
            yield Failure(NAME, where, f"{code or 'an empty code'} is not in species.csv; add it there")
        label = species[code].scientific_name if code in species else UNIDENTIFIED
        found.append(Event(start, end, label))


def _recording(
    folder: Path, name: str, events: list[Event], species: dict[str, _Species]
) -> Recording | Failure:
    file_name = f"soundscape_data/{name}"
    path = sound_file(NAME, folder, file_name, f"annotations.csv: {name}")
    if isinstance(path, Failure):
        return path
    ordered = sorted(events, key=lambda event: (event.start, event.end, event.label))
    heard = dict.fromkeys(event.label for event in ordered if event.label != UNIDENTIFIED)
    if not heard:
        return Failure(
            NAME, file_name, "has no event of a known species; correct its rows of annotations.csv"
        )
    common = {each.scientific_name: each.common_name for each in species.values()}
    start = _START.search(name)
    return Recording(
        id=without_suffix(name),
        source=NAME,
        sound=FileSound(path),
        file_name=file_name,
        license="CC-BY-4.0",
        species=tuple(heard),
        common_names=tuple(common[each] for each in heard),
        events=tuple(ordered),
        group=without_suffix(name),
        region="United States",
        date="{}-{}-{}T{}:{}:{}Z".format(*start.groups()) if start else "",
    )
