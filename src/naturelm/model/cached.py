"""Folders of the cache that hold what came out of a published wheel: made once a machine, whole or not at all.

The files of a wheel are recognised by their SHA-256, whether the wheel was given, is installed or was
downloaded by pip; its code is never run.
"""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naturelm.errors import CheckpointError

MARKER = "source.json"  # written last: origin, licence, and the size of every file


@dataclass(frozen=True)
class WheelFiles:
    """Files inside a wheel."""

    requirement: str  # the pinned package, as pip takes it
    package: str  # the package's top-level module; it is never imported
    sha256: Mapping[str, str]  # of each file, lower-case hexadecimal, by its path inside that module's folder


def is_complete(folder: Path, expected: Mapping[str, Any]) -> bool:
    """Whether the marker is there and says all of `expected`, and every file has the size it was written with."""
    try:
        mark = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        sizes = [(folder / file).stat().st_size == size for file, size in mark["bytes"].items()]
        return all(sizes) and {key: mark[key] for key in expected} == expected
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the parent of `folder` and hold its lock; CheckpointError when the disk says no inside the block."""
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            yield
    except OSError as error:
        raise CheckpointError(f"cannot write {folder} ({error}); make room or set NATURELM_CACHE") from error


@contextmanager
def made_whole(folder: Path, mark: Mapping[str, Any]) -> Iterator[tuple[Path, Path]]:
    """Make `folder`, under its lock: everything in a sibling first, then one rename.

    mark: what the marker says beside the files' sizes. Gives a folder for scratch and the one to fill.
    """
    work = folder.parent / f".{folder.name}.tmp"
    shutil.rmtree(work, ignore_errors=True)  # what a killed process left
    new = work / "new"
    try:
        new.mkdir(parents=True)
        yield work, new
        full = {**mark, "bytes": {file.name: file.stat().st_size for file in sorted(new.iterdir())}}
        (new / MARKER).write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def checked_files(files: WheelFiles, work: Path, wheel: Path | None) -> list[Path]:
    """The files, in order, each with the right SHA-256: the wheel's, the installed package's, or a downloaded wheel's.

    work: a folder for what is unpacked. Raises CheckpointError.
    """
    cure = f"fetch the package again: pip install --no-deps --force-reinstall {files.requirement}"
    found = None if wheel else _installed(files)
    shown = [str(path) for path in found or ()]
    if found is None:
        wheel = wheel or _download(files.requirement, work)
        found = _unpacked(files, work, wheel, cure)
        shown = [f"{path.name} in {wheel}" for path in found]
    for path, name, expected in zip(found, shown, files.sha256.values(), strict=True):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected:
            raise CheckpointError(f"{name} has SHA-256 {digest}, not {expected}; {cure}")
    return found


def _installed(files: WheelFiles) -> list[Path] | None:
    """The files of the installed package; finding a top-level module does not run its code."""
    spec = importlib.util.find_spec(files.package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        paths = [Path(place) / path for path in files.sha256]
        if all(path.is_file() for path in paths):
            return paths
    return None


def _unpacked(files: WheelFiles, work: Path, wheel: Path, cure: str) -> list[Path]:
    paths = [work / Path(inner).name for inner in files.sha256]
    for path, inner in zip(paths, files.sha256, strict=True):
        try:
            with zipfile.ZipFile(wheel) as archive, path.open("wb") as plain:
                shutil.copyfileobj(archive.open(f"{files.package}/{inner}"), plain, 1 << 20)
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointError(f"cannot take {path.name} in {wheel} ({error}); {cure}") from error
    return paths


def _download(requirement: str, to: Path) -> Path:
    """The wheel, fetched by the pip of this Python into the folder `to`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(to), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return next(to.glob("*.whl"))
    why = (done.stderr.strip().splitlines() or [f"pip ended with status {done.returncode}"])[-1]
    raise CheckpointError(f"cannot download ({why}); run by hand: pip install --no-deps {requirement}")
