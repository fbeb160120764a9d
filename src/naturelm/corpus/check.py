"""Proof that a corpus is sound and that its splits do not leak into each other.

Nothing that the build knew is trusted: everything is read again from the files on disk. The checks:

- readable: shards, their columns, sounds (mono FLAC at 16 kHz, as long as stated) and metadata; no
  shard is missing from its series.
- sound: a clip with an answer other than `None` has sound.
- answers: outputs, labels, options and instructions agree.
- ids: every id is there once.
- apart: no recording, file, group or (if the manifest says so) recordist is in two splits.
- held-out: no held-out taxon is heard or named in the training and validation splits.
- near-duplicates: no clip of the test or validation split has its sound in training under another name.
- manifest: counts of `corpus.json`, split columns and licences.
"""

import multiprocessing
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.corpus.check_rows import RowFacts, ShardFacts, read_shard
from naturelm.corpus.findings import (
    ANSWERS,
    APART,
    CHECKS,
    HELD_OUT,
    IDS,
    MANIFEST,
    NEAR_DUPLICATES,
    READABLE,
    SOUND,
    CheckReport,
    CheckRun,
    Finding,
    Findings,
    shown,
)
from naturelm.corpus.held_out import HeldOutNames
from naturelm.corpus.leaks import Apart, NearDuplicates, held_out_in
from naturelm.corpus.making import begin_worker
from naturelm.corpus.options import CorpusError
from naturelm.corpus.schema import SPLITS
from naturelm.corpus.storage import DATA, TAXONOMY, read_manifest
from naturelm.corpus.storage import MANIFEST as MANIFEST_FILE
from naturelm.corpus.taxonomy import Taxonomy, TaxonomyError

__all__ = ["CHECKS", "CheckReport", "CheckRun", "Finding", "check_corpus"]

_SHARD = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5}})-of-(\d{{5}})\.parquet")
_RANKS = ("species", "genera", "families")
_MOST_MISSING = 20


class _Shard(NamedTuple):
    split: str
    number: int
    of: int
    path: Path


class _Claims(NamedTuple):
    """What the manifest says that can be checked."""

    held_out: dict[str, list[str]]
    recordists_apart: bool
    generated: frozenset[str]
    counts: dict[str, dict[str, int]]


def check_corpus(
    folder: Path,
    *,
    taxonomy: Taxonomy | None = None,
    near_duplicates: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check a finished corpus.

    taxonomy: under whose names held-out taxa are looked for, besides the built-in ones; the corpus's own
        if None. near_duplicates: compare sounds as well. workers: processes that read shards.
    progress: called with rows read, and rows in all.
    Reads a row group of each worker's shard at a time; what is kept of all rows is said in `leaks`.
    Raises CorpusError where there is no corpus to check: no manifest, one of another schema, no shards.
    """
    folder = Path(folder)
    claims = _claims(folder)
    findings = Findings()
    shards = _shards(folder)
    incomplete = _gaps(folder, shards, findings)
    held_out = HeldOutNames(claims.held_out, _taxonomy(folder, taxonomy, claims, findings))
    for name in held_out.unknown:
        findings.note(f"held-out {shown(name)} is unknown to the taxonomy: looked for by this name alone")
    across = _AcrossRows(claims, held_out, findings, incomplete, near_duplicates=near_duplicates)
    total = sum(_length(shard.path) for shard in shards)
    rows: Counter[str] = Counter()
    read = partial(read_shard, generated=claims.generated, fingerprints=near_duplicates)
    for facts in _each(read, shards, workers):
        rows[facts.split] += len(facts.rows)
        across.look(facts)
        if progress is not None:
            progress(sum(rows.values()), total)
    across.finish()
    run = [name for name in CHECKS if near_duplicates or name != NEAR_DUPLICATES]
    return findings.report({split: rows[split] for split in SPLITS if rows[split]}, run)


class _AcrossRows:
    """Checks that need to know of all rows, fed with one shard after another."""

    def __init__(
        self,
        claims: _Claims,
        held_out: HeldOutNames,
        findings: Findings,
        incomplete: set[str],
        *,
        near_duplicates: bool,
    ) -> None:
        """incomplete: splits of which shards are missing."""
        self._claims = claims
        self._held_out = held_out
        self._findings = findings
        self._apart = Apart(recordists=claims.recordists_apart, generated=claims.generated, held_out=held_out)
        self._duplicates = NearDuplicates() if near_duplicates else None
        self._ids: dict[str, str] = {}
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._incomplete = set(incomplete)

    def look(self, shard: ShardFacts) -> None:
        findings = self._findings
        findings.add(shard.findings)
        findings.looked(READABLE, shard.total)
        findings.looked(SOUND, shard.clips)
        for check in (ANSWERS, IDS, APART, MANIFEST):
            findings.looked(check, len(shard.rows))
        if not shard.whole:
            self._incomplete.add(shard.split)
        for row in shard.rows:
            self._counts[shard.split][row.pair.task] += 1
            findings.add(self._same_id(row))
            findings.add(self._apart.look(row))
            if self._held_out and row.split != "test":
                findings.looked(HELD_OUT)
                findings.add(held_out_in(row, self._held_out))
            if self._duplicates is not None and self._duplicates.take(row):
                findings.looked(NEAR_DUPLICATES)

    def finish(self) -> None:
        if self._duplicates is not None:
            self._findings.add(self._duplicates.found())
        for split in SPLITS:
            if split in self._incomplete:
                self._findings.note(f"rows of the {split} split were not counted, since some cannot be read")
            else:
                self._findings.add(
                    _wrong_counts(split, self._claims.counts.get(split, {}), self._counts[split])
                )

    def _same_id(self, row: RowFacts) -> Iterator[Finding]:
        first = self._ids.setdefault(row.pair.id, row.where)
        cure = "build the corpus again"
        if not row.pair.id:
            yield Finding(IDS, row.where, "has no id", cure)
        elif first != row.where:
            yield Finding(IDS, row.where, f"has the id of another row: {first}", cure)


def _wrong_counts(split: str, claimed: Mapping[str, int], counted: Mapping[str, int]) -> Iterator[Finding]:
    for task in sorted({*claimed, *counted}):
        told, there = claimed.get(task, 0), counted.get(task, 0)
        if told != there:
            what = f"says {told} pairs of {shown(task)} in {split}, but there are {there}"
            yield Finding(MANIFEST, MANIFEST_FILE, what, "build the corpus again")


def _claims(folder: Path) -> _Claims:
    """The manifest; CorpusError where what it says cannot be checked for its shape alone."""
    manifest = read_manifest(folder)
    held_out = manifest.get("held_out", {})
    generated = manifest.get("generated_sources", [])
    counts = manifest.get("counts", {})
    shaped = (
        isinstance(held_out, dict)
        and all(_are_texts(held_out.get(rank, [])) for rank in _RANKS)
        and _are_texts(generated)
        and isinstance(counts, dict)
        and all(
            isinstance(of, dict) and all(isinstance(n, int) for n in of.values()) for of in counts.values()
        )
    )
    if not shaped:
        raise CorpusError(
            f"{folder / MANIFEST_FILE}: held_out, generated_sources or counts are not what a build writes;"
            " build the corpus again"
        )
    return _Claims(
        {rank: held_out.get(rank, []) for rank in _RANKS},
        manifest.get("recordists_apart") is True,
        frozenset(generated),
        counts,
    )


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _taxonomy(folder: Path, given: Taxonomy | None, claims: _Claims, findings: Findings) -> Taxonomy:
    """Names to look for held-out taxa under."""
    built_in = Taxonomy.built_in()
    if given is not None:
        return given.merged_with(built_in)
    try:
        return Taxonomy.from_csv(folder / TAXONOMY).merged_with(built_in)
    except TaxonomyError as error:
        if any(claims.held_out.values()) or (folder / TAXONOMY).exists():
            what = f"cannot be read, so held-out taxa were looked for under built-in names alone ({shown(error)})"
            findings.add([Finding(MANIFEST, TAXONOMY, what, "build the corpus again, or give a taxonomy")])
        return built_in


def _shards(folder: Path) -> list[_Shard]:
    """All shards, by split and number; CorpusError if there are none."""
    matches = {path: _SHARD.fullmatch(path.name) for path in (folder / DATA).glob("*.parquet")}
    shards = [
        _Shard(match[1], int(match[2]), int(match[3]), path)
        for path, match in matches.items()
        if match is not None
    ]
    if not shards:
        raise CorpusError(f"{folder}: no shards in its folder `{DATA}`; is this a finished corpus?")
    return sorted(shards, key=lambda shard: (SPLITS.index(shard.split), shard.of, shard.number))


def _gaps(folder: Path, shards: Iterable[_Shard], findings: Findings) -> set[str]:
    """Splits of which the series of shards has gaps, or is two series; both are findings."""
    known = {shard.path for shard in shards}
    for path in sorted((folder / DATA).glob("*.parquet")):
        if path not in known and not path.name.startswith("."):
            what = "is no shard of this corpus by its name"
            findings.add([Finding(READABLE, shown(path.name), what, "take it out of the folder")])
    gaps = set()
    for split in SPLITS:
        series = defaultdict(set)
        for shard in shards:
            if shard.split == split:
                series[shard.of].add(shard.number)
        if len(series) > 1:
            gaps.add(split)
            told = " and ".join(str(of) for of in sorted(series))
            what = f"shards of two series are mixed: of {told}"
            findings.add([Finding(READABLE, f"{split}-*", what, "build the corpus again")])
        for of, numbers in series.items():
            missing = len(set(range(of)) - numbers)
            for number in sorted(set(range(min(of, len(numbers) + _MOST_MISSING))) - numbers):
                name = f"{split}-{number:05d}-of-{of:05d}.parquet"
                findings.add(
                    [Finding(READABLE, name, "is missing", "copy it again, or build the corpus again")]
                )
            if missing:
                gaps.add(split)
    return gaps


def _length(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0  # reported when it is read


def _each(
    read: Callable[[Path, str], ShardFacts], shards: list[_Shard], workers: int
) -> Iterator[ShardFacts]:
    """What is in each shard, in order."""
    paths, splits = [shard.path for shard in shards], [shard.split for shard in shards]
    if min(workers, len(shards)) <= 1:
        yield from map(read, paths, splits)
        return
    # Not forked: a fork of a process with threads (Arrow has them) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(shards)), mp_context=context, initializer=begin_worker) as pool:
        try:
            yield from pool.map(read, paths, splits)
        except BrokenProcessPool as error:
            raise CorpusError(
                f"{paths[0].parent.parent}: a worker process was ended from outside, perhaps for want of memory;"
                " check again with fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
