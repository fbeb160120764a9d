"""What sources share beyond tables: names of sound files, JSON files, and ids given once."""

import json
import math
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.tables import existing_file, inside, missing_sound

SOUND_SUFFIXES = (
    ".flac",
    ".wav",
    ".wave",
    ".rf64",
    ".w64",
    ".aif",
    ".aiff",
    ".au",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".m4a",
    ".mp4",
    ".webm",
    ".wma",
)
"""Names of sound files end so, in lower case; preferred ones first. The last four are not decoded by
`naturelm.audio`: such a file is listed like any other, and says so when it is read."""


def sound_names(folder: Path) -> list[str]:
    """Paths of all sound files below `folder`, relative to it, with forward slashes, sorted.

    Hidden files and folders (leading dot, such as the `._a.wav` of a Mac's zip files) are not looked
    at; links to folders are not followed.
    """
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = Path(place).relative_to(folder)
        names += [(inner / name).as_posix() for name in files if is_sound_name(name)]
    return sorted(names)


def is_sound_name(name: str) -> bool:
    """Whether a file of this name is a sound, to go by its suffix."""
    return not name.startswith(".") and Path(name).suffix.lower() in SOUND_SUFFIXES


def without_suffix(name: str) -> str:
    """`name` without the suffix of a sound file; a dot within an id stays."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SOUND_SUFFIXES else name


def same_name(name: str) -> str:
    """The form in which two spellings of one file name are equal.

    Disks and archive programs differ in whether they compose letters with accents (Unicode NFC, NFD),
    and tables of metadata in blanks at the ends.
    """
    return unicodedata.normalize("NFC", name).strip()


def by_preference(names: Iterable[str]) -> list[str]:
    """`names` with the suffixes that come first in SOUND_SUFFIXES first."""
    return sorted(names, key=lambda name: (SOUND_SUFFIXES.index(Path(name).suffix.lower()), name))


def sound_file(source: str, folder: Path, file_name: str, row: str) -> Path | Failure:
    """The sound `file_name` of the archive, or what is wrong with it. row: table and line that name it."""
    if not _is_text(file_name):
        return Failure(source, ascii(file_name), "its name has bytes that are no text; rename the file")
    path = inside(folder, file_name)
    if path is None:
        return Failure(source, row, "names no file of the archive; correct the row")
    try:
        there = path.is_file()
    except OSError:  # longer than the file system allows
        there = False
    return path if there else missing_sound(source, file_name)


def _is_text(name: str) -> bool:
    """Whether a name can be written on one line as UTF-8; disks hold others, archive programs make them."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


class Ids:
    """Ids that a source has given, to find a second row with the same one."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows: dict[str, str] = {}

    def given_before(self, id: str, row: str) -> Failure | None:
        """None at the id's first row, which is remembered; a failure for `row` after that."""
        first = self._rows.setdefault(id, row)
        if first == row:
            return None
        return Failure(self._source, row, f"the same recording as {first}; take one of them out")


def read_json(path: Path, archive: str) -> object:
    """A JSON file's content. Raises SourceError when it is missing, not UTF-8 or not JSON."""
    existing_file(path, archive)
    try:
        content: object = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not JSON in UTF-8 ({error}); download it again") from error
    return content


def as_text(value: object) -> str:
    """A JSON value as text without blanks at its ends: numbers too, anything else is empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    # JSON can escape half of a surrogate pair, which no file can hold as UTF-8.
    return str(value).encode("utf-8", "replace").decode("utf-8").strip()


def as_seconds(value: object) -> float | None:
    """A length or a place in seconds; None for anything but a finite number of 0 or more."""
    try:
        seconds = float(as_text(value))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
