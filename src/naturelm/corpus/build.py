"""A corpus from its sources: prepared, gathered, planned, made; resumable at any moment, the same every time.

Everything that is finished is a file that was renamed into place, so a build that was killed goes on
where it was. What is in the work folder belongs to one set of options and one state of the archives;
anything else is refused, or begun anew when told to.
"""

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from naturelm.corpus.gather import (
    DUPLICATES,
    FAILURES,
    UNKNOWN_TAXA,
    Gathered,
    gather,
    write_failures,
)
from naturelm.corpus.library import Library
from naturelm.corpus.making import begin_worker, make_shard
from naturelm.corpus.options import BuildOptions, CorpusError
from naturelm.corpus.plan import Plan, make_plan
from naturelm.corpus.prepare import chunk_digest, chunks, listed, prepare_chunk, prepared_digest
from naturelm.corpus.recordings import Failure
from naturelm.corpus.schema import SCHEMA_VERSION, SPLITS
from naturelm.corpus.storage import DATA, MANIFEST, TAXONOMY, Corpus, sweep, write_text
from naturelm.corpus.taxonomy import Taxonomy

Progress = Callable[[str, int, int | None], None]
"""Called with stage, how much is done, and of how much if that is known."""

_WORK = "work"
_MARK = "build.json"
_CARD = "README.md"


@dataclass(frozen=True)
class BuildReport:
    """What a build made."""

    folder: Path
    pairs: dict[str, dict[str, int]]
    """Split -> task -> pairs."""
    failures: int
    """Rows of failures.csv."""
    unknown_taxa: int
    duplicates: int
    seconds: float


def build_corpus(
    options: BuildOptions,
    folder: Path,
    *,
    workers: int = 1,
    fresh: bool = False,
    progress: Progress = lambda _stage, _done, _total: None,
) -> BuildReport:
    """Build a corpus in `folder`, or go on with one that was stopped.

    workers: processes. fresh: throw away what an earlier build left in the folder.
    Raises CorpusError when nothing can be built: no usable recording, other options than the build
    that was begun in this folder, a full disk. What is finished stays for the next attempt.
    """
    began = time.monotonic()
    with _held(folder), _explained(folder):
        work = folder / _WORK
        for place in (folder, folder / DATA):
            sweep(place)
        _claim(folder, options, fresh=fresh)
        if (folder / MANIFEST).is_file() and not work.exists():
            return _report(folder, time.monotonic() - began)
        with _workers(workers) as pool:
            prepared = _prepare(options, work / "prepared", pool, workers, progress)
            progress("gathering", 0, None)
            library = work / "library.arrow"
            gathered = gather(prepared, options, library, folder)
            plan = make_plan(options, Library(library))
            _same_recordings(folder, library)
            notes = _make(options, plan, folder, pool, workers, progress)
        failed = [
            Failure(
                share.split, share.dataset_name or share.task, "no recording fits this share: see its filters"
            )
            for share in plan.unfilled
        ]
        failed += [Failure(**row) for path in notes for row in json.loads(path.read_text(encoding="utf-8"))]
        _finish(options, gathered, failed, folder)
        shutil.rmtree(work)
        return _report(folder, time.monotonic() - began)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Only one build works in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise CorpusError(
            f"{folder}: another build is at work here; wait for it, or give another folder"
        ) from None
    except OSError as error:
        raise CorpusError(
            f"{folder}: cannot be written to ({error.strerror}); give another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """A full disk and a dead worker, in words."""
    try:
        yield
    except BrokenProcessPool as error:
        raise CorpusError(
            f"{folder}: a worker process was ended from outside, perhaps for want of memory; "
            "run the same command again to go on, with fewer --workers"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise CorpusError(
                f"{folder}: the disk is full ({error.strerror}); free some space, and run the same command again to go on"
            ) from error
        raise CorpusError(
            f"{error.filename or folder}: {error.strerror or error}; mend this, and run the same command again to go on"
        ) from error


def _options_digest(options: BuildOptions) -> str:
    # Another version may make other pairs of the same options.
    version = importlib.metadata.version("naturelm")
    return hashlib.sha256(f"{SCHEMA_VERSION} {version} {options!r}".encode()).hexdigest()


def _claim(folder: Path, options: BuildOptions, *, fresh: bool) -> None:
    """Refuse a folder in which something else was begun, or clear it of that."""
    mark = folder / _MARK
    digest = _options_digest(options)
    if mark.is_file() and fresh:
        _clear(folder)
    elif mark.is_file():
        if _begun(mark).get("options") != digest:
            raise CorpusError(
                f"{folder}: holds a corpus with other options; give another folder, or --fresh to throw it away"
            )
        return
    strangers = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if strangers and not mark.is_file():
        raise CorpusError(
            f"{folder}: not empty, and not a corpus ({strangers[0]} is there); give another folder"
        )
    write_text(mark, json.dumps({"options": digest}))


def _clear(folder: Path) -> None:
    """Remove what a build has written, and nothing else; the mark stays until another takes its place."""
    # The manifest first: without it, what is left if this is stopped half-way is not taken for finished.
    for name in (MANIFEST, _CARD, FAILURES, UNKNOWN_TAXA, DUPLICATES, TAXONOMY):
        (folder / name).unlink(missing_ok=True)
    for name in (_WORK, DATA):
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def _begun(mark: Path) -> dict[str, str]:
    try:
        return dict(json.loads(mark.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorpusError(f"{mark}: damaged ({error}); begin anew with --fresh") from error


def _same_recordings(folder: Path, library: Path) -> None:
    """Refuse to add shards to those that were made from other recordings."""
    mark = folder / _MARK
    known = _begun(mark)
    with library.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if known.get("library", digest) != digest:
        raise CorpusError(
            f"{folder}: the archives have changed since this build began; begin anew with --fresh"
        )
    write_text(mark, json.dumps({**known, "library": digest}))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    # Not forked: a fork of a process with threads (Arrow has them) may hang.
    context = multiprocessing.get_context("spawn")
    # Processes share the cores among themselves; each with a thread for every core is slower.
    with (
        _environment("OPENBLAS_NUM_THREADS", "1"),
        ProcessPoolExecutor(count, mp_context=context, initializer=begin_worker) as pool,
    ):
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare(
    options: BuildOptions, folder: Path, pool: ProcessPoolExecutor, workers: int, progress: Progress
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []

    def calls() -> Iterator[tuple[object, ...]]:
        for number, chunk in enumerate(chunks(listed(options))):
            path = folder / f"{number:06d}.parquet"
            paths.append(path)
            digest = chunk_digest(chunk, options)
            if prepared_digest(path) != digest:
                yield (prepare_chunk, chunk, options.most_seconds, path, digest)

    for done in _in_parallel(calls(), pool, 2 * workers):
        progress("opening recordings", done, None)
    for path in set(folder.glob("*.parquet")) - set(paths):
        path.unlink()
    if not paths:
        raise CorpusError("the sources list no recording at all; check their folders")
    return paths


def _make(
    options: BuildOptions,
    plan: Plan,
    folder: Path,
    pool: ProcessPoolExecutor,
    workers: int,
    progress: Progress,
) -> list[Path]:
    """Make the shards that are not there yet; where the notes on each are."""
    notes: list[Path] = []
    there = 0
    library = folder / _WORK / "library.arrow"
    size = options.pairs_per_shard

    def calls() -> Iterator[tuple[object, ...]]:
        nonlocal there
        for split, jobs in plan.jobs.items():
            shards = -(-len(jobs) // size)
            for number in range(shards):
                path = folder / DATA / f"{split}-{number:05d}-of-{shards:05d}.parquet"
                notes.append(folder / _WORK / f"{path.stem}.json")
                if path.is_file() and notes[-1].is_file():
                    there += 1
                else:
                    of_shard = plan.shard(split, number * size, size)
                    yield (make_shard, options, library, of_shard, path, notes[-1])

    total = sum(map(len, plan.jobs.values()))
    for done in _in_parallel(calls(), pool, 2 * workers):
        progress("making pairs", min((there + done) * size, total), total)
    return notes


def _in_parallel(calls: Iterable[tuple[object, ...]], pool: ProcessPoolExecutor, most: int) -> Iterator[int]:
    """Run calls, at most so many handed out at once; yields how many are done."""
    running: set[Future[object]] = set()
    done = 0

    def settled() -> int:
        nonlocal running
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        return len(finished)

    for function, *arguments in calls:
        if len(running) >= most:
            done += settled()
            yield done
        running.add(pool.submit(function, *arguments))  # type: ignore[arg-type]
    while running:
        done += settled()
        yield done


def _finish(options: BuildOptions, gathered: Gathered, failed: list[Failure], folder: Path) -> None:
    """Tables, card and, last of all, the manifest: with it the corpus is complete."""
    failures = list(dict.fromkeys([*gathered.failures, *failed]))
    write_failures(failures, folder)
    Taxonomy.from_taxa(gathered.taxa).to_csv(folder / TAXONOMY)
    counts: dict[str, dict[str, int]] = {}
    hours: dict[str, float] = {}
    for split in SPLITS:
        if not list((folder / DATA).glob(f"{split}-*.parquet")):
            continue
        table = Corpus(folder, split).table(("task", "duration"))
        counts[split] = dict(sorted(Counter(table.column("task").to_pylist()).items()))
        hours[split] = round(sum(table.column("duration").to_pylist()) / 3600, 3)
    manifest = {
        "schema": SCHEMA_VERSION,
        "name": options.name,
        "seed": options.seed,
        "held_out": {
            rank: sorted(getattr(gathered.held_out, rank)) for rank in ("species", "genera", "families")
        },
        "recordists_apart": options.splits.recordists_apart,
        "generated_sources": list(gathered.generated),
        "counts": counts,
        "hours": hours,
        "failures": len(failures),
        "unknown_taxa": gathered.unknown,
        "duplicates": gathered.duplicates,
        "licenses": gathered.licenses,
        "shares": [dataclasses.asdict(share) for share in options.shares],
        "versions": {
            name: importlib.metadata.version(name) for name in ("naturelm", "pyarrow", "soundfile", "numpy")
        },
    }
    write_text(folder / _CARD, _card(manifest))
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _card(manifest: dict[str, object]) -> str:
    """What a person reads first on opening the folder; its head is what the Hugging Face hub reads."""
    licenses: dict[str, dict[str, int]] = manifest["licenses"]  # type: ignore[assignment]
    counts: dict[str, dict[str, int]] = manifest["counts"]  # type: ignore[assignment]
    splits = "\n".join(f"  - split: {split}\n    path: {DATA}/{split}-*.parquet" for split in counts)
    pairs = "\n".join(
        f"| {split} | {task} | {number} |" for split, of in counts.items() for task, number in of.items()
    )
    sources = "\n".join(
        f"| {source} | {license_} | {number} |"
        for source, of in licenses.items()
        for license_, number in of.items()
    )
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}\n---\n\n"
        f"# {manifest['name']}\n\nInstruction-audio pairs, built with naturelm (seed {manifest['seed']}). "
        "Every row names its recordings, their recordists and licences.\n\n"
        f"| split | task | pairs |\n|---|---|---:|\n{pairs}\n\n"
        f"| source | licence | recordings |\n|---|---|---:|\n{sources}\n"
    )


def _report(folder: Path, seconds: float) -> BuildReport:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return BuildReport(
        folder,
        manifest["counts"],
        manifest["failures"],
        manifest["unknown_taxa"],
        manifest["duplicates"],
        seconds,
    )
