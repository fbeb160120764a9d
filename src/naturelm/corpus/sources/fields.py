"""Facts out of an archive's text, and an archive's sounds by their names.

Metadata is written by many hands: what cannot be understood counts as not stated.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.files import SOUND_SUFFIXES, same_name, sound_names
from naturelm.corpus.sources.tables import column_names, inside, missing_sound, read_rows

_UNREADABLE = (".3gp", ".aac", ".amr", ".caf", ".m4a", ".mp4", ".webm", ".wma")
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?(?![\d-])(.*)", re.ASCII | re.DOTALL)


def iso_date(text: str) -> str:
    """An ISO 8601 date, without the parts that are given as zero (`2010-05-00`); empty if there is none."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return ""
    year, month, day, rest = match[1], int(match[2] or 0), int(match[3] or 0), match[4].strip()
    if int(year) == 0 or month > 12 or day > 31:
        return ""
    if month == 0:
        return year
    if day == 0:
        return f"{year}-{month:02}"
    return f"{year}-{month:02}-{day:02}{rest if rest[:1] in ('T', '/') else ''}"


def listed_words(text: str, separators: str = ",;|") -> tuple[str, ...]:
    """Parts of a list in one field, each once, in order, empty ones left out."""
    parts = re.split(f"[{re.escape(separators)}]", text)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def whole_number(text: str) -> int | None:
    """A count of one or more; None when it is not one."""
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) and int(text) > 0 else None


def web_address(text: str) -> str:
    """An address with its scheme, which Xeno-canto leaves out."""
    return f"https:{text}" if text.startswith("//") else text


def address_name(address: str) -> str:
    """The file's name that an address ends with, unquoted; empty if there is none."""
    try:
        path = urlsplit(address).path
    except ValueError:  # such as an unclosed [ of an IPv6 host
        return ""
    name = unquote(path).replace("\\", "/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def plain(name: str) -> str:
    """A column's name without what spellings differ in: `Start Time (s)` is `starttimes`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def plain_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their columns under `plain` names; `required` are names as the archive writes them.

    Raises SourceError as `read_rows` does.
    """
    header = column_names(path)
    found = {plain(name) for name in header}
    missing = [name for name in required if plain(name) not in found]
    if missing:
        listed = ", ".join(header) or "nothing"
        raise SourceError(f"{path}: no column {', '.join(missing)}; its header has: {listed}")
    for line, row in read_rows(path, ()):
        yield line, {plain(name): text for name, text in row.items()}


def stem_key(name: str) -> str:
    """Files are looked up by their name without its suffix: archives are often converted on the way."""
    suffix = PurePosixPath(name).suffix
    known = suffix.lower() in SOUND_SUFFIXES or suffix.lower() in _UNREADABLE
    return same_name(name.removesuffix(suffix) if known else name).casefold()


@dataclass(frozen=True)
class FoundSound:
    """A sound file of an archive."""

    path: Path
    file_name: str
    """Path within the archive, with forward slashes."""


@dataclass(frozen=True)
class SoundIndex:
    """The sound files below a folder, walked once."""

    folder: Path
    key: Callable[[str], str]
    """From a file's name, what it is looked up by; empty for files that do not belong."""
    names: dict[str, list[str]]
    """Paths within the folder, by key."""

    def find(self, source: str, name: str) -> FoundSound | Failure:
        """The file called `name`, wherever it lies, or the one that differs in its suffix only."""
        fitting = self.names.get(self.key(name), [])
        exact = [each for each in fitting if same_name(PurePosixPath(each).name) == same_name(name)]
        candidates = exact or fitting
        if len(candidates) > 1:
            several = ", ".join(candidates[:4])
            return Failure(source, name, f"several files fit: {several}; keep one of them in the archive")
        if candidates:
            path = inside(self.folder, candidates[0])
            if path is not None and path.is_file():
                return FoundSound(path, candidates[0])
            return Failure(source, candidates[0], "a link to outside the folder; put the file itself there")
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in _UNREADABLE:
            return Failure(
                source, name, f"no converted copy is there, and {suffix} cannot be read; add it as FLAC"
            )
        return missing_sound(source, name)


def index_sounds(folder: Path, key: Callable[[str], str] = stem_key) -> SoundIndex:
    """Index the sound files below a folder."""
    names: dict[str, list[str]] = {}
    for file_name in sound_names(folder):
        name = key(PurePosixPath(file_name).name)
        if name:
            names.setdefault(name, []).append(file_name)
    return SoundIndex(folder, key, names)
