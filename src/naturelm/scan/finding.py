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
    files left out (a Mac's `._x.wav` is no recording). lists: text files with a path a line, relative ones from
    the list's own folder. without: a folder that is not searched, where the results go.

    A file that is missing is kept, so that the scan reports it. ScanError: no such folder or list, nothing found.
    """
    if not paths and not lists:
        raise ScanError("no recordings are named; give files, folders or --list")
    hidden = None if without is None else _absolute(without)
    named = [(path, path.parent) for path in paths] + [entry for file in lists for entry in _listed(file)]
    found: dict[str, Found] = {}
    for path, _ in named:
        if path.is_dir():
            for file in _walk(path, hidden):
                found.setdefault(file, _look_at(file, _absolute(path)))
        else:
            file = _absolute(path)
            found.setdefault(file, _look_at(file, str(Path(file).parent)))
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
    def refuse(error: OSError) -> None:
        raise ScanError(f"{error.filename}: cannot be searched ({error.strerror}); ask for access")

    for place, folders, files in os.walk(_absolute(folder), onerror=refuse):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and str(Path(place) / name) != hidden
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(place) / name)


def _absolute(path: Path) -> str:
    # Not `resolve`: where a link leads may change, and the name that was given is what people look for.
    return os.path.abspath(path)  # noqa: PTH100


def _look_at(file: str, folder: str) -> Found:
    try:
        state = Path(file).stat()
    except (OSError, ValueError):
        return Found(file, folder, -1, -1)
    return Found(file, folder, state.st_size, state.st_mtime_ns)


def _listed(file: Path) -> list[tuple[Path, Path]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"{file}: not a readable list ({error}); give one path a line, UTF-8") from error
    return [(file.parent / line.strip(), file.parent) for line in lines if line.strip()]
