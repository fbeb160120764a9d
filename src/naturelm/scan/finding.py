"""Which recordings are meant: files, folders and lists of them, and under which key a scan keeps each."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from naturelm.scan.options import ScanError

SUFFIXES = frozenset(
    (
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".w64",
        ".rf64",
        ".au",
        ".caf",
    )
)
"""Endings of recordings in folders, in small letters. A file that is named itself may have any."""
GROUP_BYTES = 128 * 2**20
JOURNAL = "journal"
SCAN_MARK = "scan.json"
CLIPS = "clips"
"""In a folder of results: the folder of the journal, the file in it that makes it one, and the folder of clips."""


def is_scan(folder: Path) -> bool:
    """Whether it holds the results of a scan."""
    return (folder / JOURNAL / SCAN_MARK).is_file()


def shown(text: str) -> str:
    """A path, or a message with one, as text that can be written as UTF-8: bytes of a name that are none as `\\xe9`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, order=True)
class Found:
    """A recording to be scanned.

    path: absolute, "." and ".." resolved, links not. folder: the folder that was named and in which it was
    found, or its own. size: bytes; modified: ns since 1970; both -1 where the file cannot be looked at.
    """

    path: str
    folder: str
    size: int
    modified: int

    @property
    def path_key(self) -> str:
        """Hash of the path."""
        return hashlib.blake2b(os.fsencode(self.path), digest_size=12).hexdigest()

    @property
    def key(self) -> str:
        """Hash of the path, followed by one of the size and time."""
        state = hashlib.blake2b(f"{self.size} {self.modified}".encode(), digest_size=8).hexdigest()
        return f"{self.path_key}-{state}"


def find_recordings(
    paths: Sequence[Path], *, lists: Sequence[Path] = (), without: Path | None = None
) -> list[Found]:
    """The recordings that are meant, each once, in the order of their paths.

    paths: files and folders; folders are searched to any depth for the usual endings in any letter case, hidden
    files left out (a Mac's `._x.wav` is no recording), and links to folders not followed. lists: text files with a
    path a line, relative ones from the list's own folder. without: a folder that is not searched, where the results
    go. Clips that a scan cut out are not searched for anywhere.

    What is missing, and folders that cannot be searched, are kept, so that the scan reports them. ScanError: no such
    list, nothing found.
    """
    if not paths and not lists:
        raise ScanError("no recordings are named; give files, folders or --list")
    hidden = None if without is None else _absolute(without)
    named = [(path, path.parent) for path in paths] + [entry for file in lists for entry in _listed(file)]
    found: dict[str, Found] = {}
    for path, _ in named:
        if path.is_dir():
            for file in _walk(path, hidden):
                found.setdefault(file, look_at(file, _absolute(path)))
        else:
            file = _absolute(path)
            found.setdefault(file, look_at(file, str(Path(file).parent)))
    if not found:
        where = ", ".join(str(path) for path, _ in named[:3]) or "the list"
        raise ScanError(f"{where}: no recordings there; looked for {' '.join(sorted(SUFFIXES))}")
    return sorted(found.values())


def grouped(recordings: Iterable[Found], most_bytes: int = GROUP_BYTES) -> list[tuple[Found, ...]]:
    """Recordings in groups, in order: the small ones together, those above `most_bytes` each alone.

    Windows share batches within a group and never beyond it. So what a batch holds, on which the last digits
    of a score depend, is the same whether or not a scan was interrupted, and on whichever machine it runs.
    """
    groups: list[tuple[Found, ...]] = []
    waiting: list[Found] = []
    size = 0
    for recording in recordings:
        if waiting and size + recording.size > most_bytes:
            groups.append(tuple(waiting))
            waiting, size = [], 0
        waiting.append(recording)
        size += max(recording.size, 0)
    return [*groups, tuple(waiting)] if waiting else groups


def _walk(folder: Path, hidden: str | None) -> Iterator[str]:
    closed: list[str] = []  # such as a disk's `lost+found`; the rest is searched all the same
    for place, folders, files in os.walk(
        _absolute(folder), onerror=lambda error: closed.append(error.filename)
    ):
        own = CLIPS if is_scan(Path(place)) else None
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name != own and str(Path(place) / name) != hidden
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(place) / name)
    yield from closed


def _absolute(path: Path) -> str:
    # Not `resolve`: where a link leads may change, and the name that was given is what people look for.
    return os.path.abspath(path)  # noqa: PTH100


def look_at(file: str, folder: str) -> Found:
    """The recording as it is on disk now; arguments as in `Found`."""
    try:
        state = Path(file).stat()
    except (OSError, ValueError):
        return Found(file, folder, -1, -1)
    return Found(file, folder, state.st_size, state.st_mtime_ns)


def _listed(file: Path) -> list[tuple[Path, Path]]:
    try:
        # Names of files are bytes, and old disks have some that are no UTF-8.
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ScanError(f"{file}: not a readable list ({error.strerror}); give one path a line") from error
    if "\0" in text:
        raise ScanError(f"{file}: not a list of paths but a binary file; give one path a line")
    # Not `splitlines`: a name may hold what else it takes for the end of a line.
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    return [(file.parent / line, file.parent) for line in lines if line]
