"""Watkins Marine Mammal Sound Database of the Woods Hole Oceanographic Institution (Sayigh et al. 2016).

"Best of" or all cuts, free for personal and academic use. Layout: a folder for each species, called by
its common name, `Bottlenose_Dolphin/8501204X.wav`. A cut is called by its retrieval number: two digits
for the year, three for the tape, then the cut (Watkins et al. 1992); year and tape are the group, because
cuts of a tape were made in one place of the same animals, and some cuts lie in the folders of two species.

The archive ships no table. One of your own is used where it is there: `metadata.csv` with `file_name`
(`Bottlenose_Dolphin/8501204X.wav`), and any of `scientific_name`, `common_name`, `location`, `date`,
`call_type`, `number` (of animals) and `recordist`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.fields import iso_date, listed_words, plain_rows, whole_number
from naturelm.corpus.sources.files import Ids, same_name, sound_file, sound_names, without_suffix
from naturelm.corpus.sources.tables import existing_folder

NAME = "watkins"

_RETRIEVAL_NUMBER = re.compile(r"([0-9]{2}[0-9]{3})[0-9A-Za-z]{2,4}")


@dataclass(frozen=True)
class Source:
    """Folders of species, with or without a table."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`."""
        folder = existing_folder(self.folder, "the Watkins database")
        names = sound_names(folder)
        if not names:
            raise SourceError(f"{folder}: no sounds; give the folder with a folder for each species")
        facts: dict[str, dict[str, str]] = {}
        ids = Ids(NAME)
        if (folder / "metadata.csv").exists():
            yield from _read_facts(folder, facts, {same_name(name) for name in names})
        for name in names:
            yield ids.given_before(without_suffix(name), name) or _recording(
                folder, name, facts.get(same_name(name), {})
            )


def _read_facts(folder: Path, facts: dict[str, dict[str, str]], there: set[str]) -> Iterator[Failure]:
    """Fills `facts` by file name; gives rows that name no sound of the folder, or one again."""
    rows = Ids(NAME)
    for line, row in plain_rows(folder / "metadata.csv", ("file_name",)):
        where = f"metadata.csv line {line}"
        name = same_name(row["filename"]).replace("\\", "/")
        twice = rows.given_before(name, where)
        if name not in there:
            yield Failure(
                NAME, where, f"{name or 'its file'} is not there; add the sound or take the row out"
            )
        elif twice is not None:
            yield twice
        else:
            facts[name] = row


def _recording(folder: Path, name: str, facts: Mapping[str, str]) -> Recording | Failure:
    path = sound_file(NAME, folder, name, name)
    if isinstance(path, Failure):
        return path
    species_folder = PurePosixPath(name).parent.name
    common_name = facts.get("commonname") or species_folder.replace("_", " ").strip()
    scientific_name = facts.get("scientificname", "")
    if not common_name and not scientific_name:
        return Failure(NAME, name, "lies in no folder of a species; move it to one")
    number = _RETRIEVAL_NUMBER.fullmatch(PurePosixPath(name).stem)
    return Recording(
        id=without_suffix(name),
        source=NAME,
        sound=FileSound(path),
        file_name=name,
        license="free for personal and academic use",
        species=(scientific_name or common_name,),
        common_names=(common_name,) if common_name else (),
        call_types=listed_words(facts.get("calltype", "")),
        count=whole_number(facts.get("number", "")),
        recordist=facts.get("recordist", ""),
        # A cut of another name can still lie in two folders.
        group=number[1] if number else PurePosixPath(name).stem,
        region=facts.get("location", ""),
        date=iso_date(facts.get("date", "")),
    )
