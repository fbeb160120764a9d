"""The starter corpus itself, in small, from the registries: fetched, built twice, killed and gone on with."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from naturelm.corpus.build import build_corpus
from naturelm.corpus.check import check_corpus
from naturelm.corpus.options import BuildOptions
from naturelm.corpus.starter import starter_options
from naturelm.corpus.starter.packages import PROGRAMS
from naturelm.corpus.storage import read_manifest
from naturelm.corpus.tasks import TASKS

PART = 0.03
MISSING = [program for program in (*PROGRAMS, "apt-get", "dpkg-deb") if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(MISSING), reason=f"the starter corpus needs {', '.join(MISSING)}"),
]


def small_starter() -> BuildOptions:
    """A thirtieth of the pairs, in shards small enough that there are many."""
    options = starter_options()
    shares = [
        replace(share, pairs=share.pairs and max(4, round(share.pairs * PART))) for share in options.shares
    ]
    return replace(options, shares=tuple(shares), pairs_per_shard=32)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that a build leaves."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter") / "corpus"
    build_corpus(small_starter(), folder, workers=2)
    return folder


def test_it_is_sound_and_holds_every_task(built: Path) -> None:
    report = check_corpus(built, workers=2)
    assert report.ok, report.findings
    counts = read_manifest(built)["counts"]
    asked = {task.name for task in TASKS} - {"own"}
    assert set(counts["train"]) == asked
    assert sum(counts["train"].values()) > 500


def test_killed_three_times_it_ends_in_the_same_bytes(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    script = (
        "from pathlib import Path\n"
        "from naturelm.corpus.build import build_corpus\n"
        "from test_starter_build import small_starter\n"
        "if __name__ == '__main__':\n"
        f"    build_corpus(small_starter(), Path({str(folder)!r}), workers=2)\n"
    )
    (tmp_path / "build.py").write_text(script)
    moments = (("work/prepared/*.parquet", 10), ("data/*.parquet", 3), ("data/*.parquet", 12))
    for pattern, wanted in moments:
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "build.py")], env=_environment(), stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(folder.glob(pattern))) < wanted:
            time.sleep(0.02)
        assert process.poll() is None, "the build ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    build_corpus(small_starter(), folder, workers=1)
    assert digests(folder) == digests(built)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
