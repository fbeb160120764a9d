"""Files that a request names, read only where that was allowed.

One answer stands for all that cannot be read, so that nobody finds out which files there are elsewhere. Between the
check of a path and its opening somebody may put a link in its place: each step down from the allowed folder is opened
from the step before and refuses links, so what is read lies where it was checked.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from naturelm.serve.faults import Fault, RequestFault, ServeError

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | _NO_LINKS | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Not to wait for somebody who writes to a pipe that has just taken the file's place.
_FILE = os.O_RDONLY | _NO_LINKS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class AllowedFolders:
    """Folders under which requests may name files."""

    def __init__(self, folders: Sequence[Path], most_bytes: int) -> None:
        """most_bytes: of one file. Raises ServeError where the system cannot open files step by step."""
        if folders and not (_NO_LINKS and os.open in os.supports_dir_fd):
            raise ServeError("--allow-dir: this system cannot keep requests within a folder; do without")
        self._roots = [folder.resolve() for folder in folders]
        # Also as it was given, which is how those who ask know it.
        self._known_as = [*self._roots, *(folder.absolute() for folder in folders)]
        self._most_bytes = most_bytes

    def read(self, path: str, name: str) -> bytes:
        """A file's content. name: of the sound, for messages. Raises RequestFault."""
        if not self._roots:
            raise RequestFault(
                Fault.NOT_ALLOWED, f"{name}: this server reads no files of its own; send the sound itself"
            )
        wanted = Path(path)
        if "\0" in path or ".." in wanted.parts or not wanted.is_absolute():
            raise RequestFault(
                Fault.INVALID,
                f"{name}: give the whole path of a file, from / on and without '..'; no file:// URL",
            )
        try:
            descriptor = self._open(wanted)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            descriptor = None
        if descriptor is None:
            raise RequestFault(
                Fault.NOT_ALLOWED, f"{name}: there is no such file in the folders that this server may read"
            )
        with os.fdopen(descriptor, "rb") as file:
            try:
                content = file.read(self._most_bytes + 1)
            except OSError as error:
                raise RequestFault(Fault.BAD_AUDIO, f"{name}: the file cannot be read") from error
        if len(content) > self._most_bytes:
            raise RequestFault(Fault.TOO_LARGE, f"{name}: the file is larger than {self._most_bytes} bytes")
        return content

    def _open(self, wanted: Path) -> int | None:
        """A descriptor of a regular file below a root; None where there is none. Raises OSError."""
        # What lies elsewhere is not even looked at, since that takes time that could be measured.
        if not any(wanted.is_relative_to(known) for known in self._known_as):
            return None
        resolved = wanted.resolve(strict=True)
        for root in self._roots:
            if resolved.is_relative_to(root):
                return _open_below(root, resolved.relative_to(root).parts)
        return None


def _open_below(root: Path, parts: Sequence[str]) -> int | None:
    """A descriptor of the regular file at `parts` below `root`, with no link on the way. Raises OSError."""
    if not parts:
        return None
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Asked before as well: to open a device can already do something.
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            return None
        descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor
