"""Animal Sound Archive of the Museum für Naturkunde Berlin (tierstimmenarchiv.de), as published to GBIF.

Layout: the Darwin Core archive, unpacked, with its `meta.xml`, and the sounds anywhere below the
folder, called as their address ends (`Turdus_merula_DIG0013_05.mp3`) or as the catalogue number does
(`TSA:Turdus_merula_DIG0013_05`). The number at the end is assumed to count cuts of one tape, and what
stands before it is the group.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from naturelm.corpus.recordings import Failure, Recording
from naturelm.corpus.sources.darwin_core import SoundName, SoundRow, read_archive, sound_recordings
from naturelm.corpus.sources.fields import address_name, index_sounds
from naturelm.corpus.sources.files import is_sound_name, without_suffix
from naturelm.corpus.sources.tables import existing_folder

NAME = "animal-sound-archive"

_CUT = re.compile(r"_[0-9]{1,3}(?:_short)?$")


@dataclass(frozen=True)
class Source:
    """A folder with the archive and its sounds."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`."""
        folder = existing_folder(self.folder, "the Animal Sound Archive")
        archive = read_archive(folder, "the Animal Sound Archive")
        yield from sound_recordings(archive, index_sounds(folder), NAME, _sound_name)


def _sound_name(row: SoundRow) -> SoundName | None:
    name = address_name(row.address)
    if not is_sound_name(name):  # the address of a page
        name = row.occurrence.get("catalogNumber", "").rpartition(":")[2] or name
    id = without_suffix(name)
    return SoundName(id, name, group=_CUT.sub("", id)) if id else None
