"""Small archives and builds for the tests, and builds in a process of their own that can be killed."""

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
import soxr
from archives import write
from corpora import RATE, chirps

from naturelm.corpus.gather import DUPLICATES, FAILURES, UNKNOWN_TAXA
from naturelm.corpus.options import BuildOptions, Share, SplitOptions
from naturelm.corpus.scene import SceneOptions
from naturelm.corpus.sources import source_type
from naturelm.corpus.starter.fauna_source import FaunaSource
from naturelm.corpus.storage import DATA, MANIFEST, TAXONOMY

TABLES = (FAILURES, UNKNOWN_TAXA, DUPLICATES, TAXONOMY, MANIFEST, "README.md")
BIRDS = (
    "Turdus merula",
    "Turdus philomelos",
    "Parus major",
    "Fringilla coelebs",
    "Cuculus canorus",
    "Strix aluco",
)
PLACES = ("rain", "sea waves", "church bells", "engine")
CLIPS = SceneOptions(seconds=2.0)


def call(path: Path, seed: int, *, seconds: float = 1.2, rate: int = RATE, channels: int = 1) -> Path:
    """Write a sound file of its own kind for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = soxr.resample(chirps(seconds, seed=seed), RATE, rate)
    sf.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path


def birds(folder: Path, *, each: int = 4, rows: str = "") -> Path:
    """An archive of source `folder`: `each` recordings of each of BIRDS, by two recordists a species."""
    lines = ["file,species,background,recordist,license,split,caption,labels,kind"]
    for number, species in enumerate(BIRDS):
        for take in range(each):
            name = f"{species.replace(' ', '-')}/{take}.wav"
            call(folder / name, 100 * number + take)
            split = "test" if take == each - 1 and number < 3 else "train"
            lines.append(f"{name},{species},,recordist {number}-{take % 2 + take // 3},CC-BY-4.0,{split},,,")
    write(folder / "metadata.csv", "\n".join(lines) + "\n" + rows)
    return folder


def places(folder: Path, *, each: int = 3) -> Path:
    """An ESC-50 archive: `each` clips of each of PLACES."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, label in enumerate(PLACES):
        for take in range(each):
            name = f"1-{number}{take}-A-{number}.wav"
            call(folder / "audio" / name, 5000 + 100 * number + take, rate=44100)
            lines.append(f"{name},1,{number},{label.replace(' ', '_')},False,{number}{take},A")
    write(folder / "meta" / "esc50.csv", "\n".join(lines) + "\n")
    return folder


def small_options(archive: Path, *extra: Path, **changes: object) -> BuildOptions:
    """Options for `birds(archive / "birds")` and `places(archive / "esc50")`: several shards of eight."""
    given = BuildOptions(
        name="small",
        sources=(
            source_type("folder")(archive / "birds"),  # type: ignore[call-arg]
            source_type("esc50")(archive / "esc50"),  # type: ignore[call-arg]
        ),
        shares=(
            Share("species-common", 14),
            Share("detection-options", 6),
            Share("environment", 6),
            Share("species-scientific", 4, split="test", dataset_name="held-out"),
        ),
        seed=3,
        splits=SplitOptions(species=("tawny owl",), test_share=0.1),
        train_scenes=CLIPS,
        test_scenes=CLIPS,
        pairs_per_shard=8,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def written(folder: Path) -> dict[str, bytes]:
    """Content of every file of a corpus by its name, but for the lock and the mark of what was begun."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {".lock", "build.json"}
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table beside the shards."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def causes(folder: Path) -> dict[str, str]:
    """Cause of each failure by file name; that a file is named twice is a mistake."""
    rows = rows_of(folder / FAILURES)
    assert len({row["file_name"] for row in rows}) == len(rows)
    return {row["file_name"]: row["cause"] for row in rows}


def all_pairs(folder: Path) -> pa.Table:
    """Columns of every shard but the sound."""
    tables = [pq.read_table(path) for path in sorted((folder / DATA).glob("*.parquet"))]
    return pa.concat_tables(tables).drop_columns(["audio"])


def with_fauna(archive: Path) -> BuildOptions:
    """The same with synthesised animals, so that there is more than one chunk to prepare, and more shards."""
    options = small_options(archive)
    sources = (*options.sources, FaunaSource(12, seed=0))
    return replace(options, sources=sources, pairs_per_shard=4)


_SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
import builds
from naturelm.corpus.build import build_corpus
from naturelm.errors import NatureLMError

def children():
    return [int(p) for t in os.listdir("/proc/self/task") for p in open(f"/proc/self/task/{{t}}/children").read().split()]

def progress(stage, done, total):
    if stage == {stage!r} and done >= {done}:  # several may be done at once
        print(*children(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    if {largest}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, resource.RLIM_INFINITY))
    try:
        build_corpus(builds.{options}(Path({archive!r})), Path({out!r}), workers=2, progress=progress)
    except NatureLMError as error:
        sys.exit(str(error))
"""


def build_apart(
    archive: Path,
    out: Path,
    *,
    stage: str = "",
    done: int = 0,
    largest: int = 0,
    options: str = "small_options",
) -> tuple[int, list[int], str]:
    """Build in a process of its own; status, its children when it was killed, and what it said.

    stage, done: kill it with SIGKILL as it reports so much of this stage. largest: bytes that a file may have.
    """
    here = Path(__file__).parent
    script = archive.parent / f"build-{stage.replace(' ', '-')}-{largest}.py"
    search = [str(here), str(here / "sources")]
    script.write_text(
        _SCRIPT.format(
            path=search,
            options=options,
            stage=stage,
            done=done,
            largest=largest,
            archive=str(archive),
            out=str(out),
        ),
        encoding="utf-8",
    )
    # Into files: a worker that outlived its parent would hold a pipe open for as long as it lives.
    said, complained = script.with_suffix(".out"), script.with_suffix(".err")
    with said.open("w") as output, complained.open("w") as errors:
        status = subprocess.run(
            [sys.executable, str(script)], stdout=output, stderr=errors, timeout=120, check=False
        ).returncode
    return status, [int(text) for text in said.read_text().split()], complained.read_text()


def outlived(processes: Iterable[int], seconds: float = 15.0) -> list[int]:
    """Those of the processes that are still at work after so long."""
    end = time.monotonic() + seconds
    left = [process for process in processes if _at_work(process)]
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [process for process in left if _at_work(process)]
    return left


def _at_work(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"
