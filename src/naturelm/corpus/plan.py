"""Third stage of a build: which pair is made from which recording. A pure function of options and library."""

import zlib
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.options import BuildOptions, CorpusError, Share
from naturelm.corpus.schema import SPLITS
from naturelm.corpus.tasks import TASKS, Task

Rows = npt.NDArray[np.int64]
_SPARE = 5
"""Other recordings that a pair may be made from."""


@dataclass(frozen=True)
class Job:
    """One pair to make."""

    share: int
    """Place in `BuildOptions.shares`."""
    number: int
    """Counts within the share."""
    rows: tuple[int, ...]
    """Recordings to make it from, rows of the library: the first that turns out to do."""


@dataclass(frozen=True)
class Plan:
    """What is to be made, in the order in which it is stored. About 40 bytes a pair."""

    options: BuildOptions
    jobs: dict[str, Rows]
    """Split -> (pairs, 3): share, number within it, row of the library."""
    eligible: tuple[Rows, ...]
    """Rows that fit each share: others are tried where a recording turns out not to do."""

    @property
    def unfilled(self) -> tuple[Share, ...]:
        """Shares that ask for pairs and that no recording fits."""
        shares = zip(self.options.shares, self.eligible, strict=True)
        return tuple(share for share, rows in shares if share.pairs != 0 and not len(rows))

    def shard(self, split: str, first: int, count: int) -> list[Job]:
        """Jobs first ... first + count - 1 of a split, with what else to try."""
        return [
            self._job(*(int(value) for value in line)) for line in self.jobs[split][first : first + count]
        ]

    def _job(self, share: int, number: int, row: int) -> Job:
        rng = np.random.default_rng([*share_seed(self.options, self.options.shares[share]), number])
        return Job(share, number, (row, *rng.choice(self.eligible[share], size=_SPARE).tolist()))


def task_called(name: str) -> Task:
    """The task of that name; CorpusError, listing them, if there is none."""
    for task in TASKS:
        if task.name == name:
            return task
    raise CorpusError(f"no task is called {name!r}; there are: {', '.join(task.name for task in TASKS)}")


def make_plan(options: BuildOptions, library: Library) -> Plan:
    """Jobs for every share. CorpusError if no recording fits any of them."""
    tasks = [task_called(share.task) for share in options.shares]
    names = [share.name for share in options.shares]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CorpusError(
            f"shares: {', '.join(twice)} is asked for twice; give the second another dataset_name"
        )
    # Row and what takes turns, as numbers: of two million recordings nothing else is kept.
    fitting = [array("q") for _ in tasks]
    turns = [array("q") for _ in tasks]
    numbered: dict[str, int] = {}
    for row, entry in enumerate(library):
        for place, (share, task) in enumerate(zip(options.shares, tasks, strict=True)):
            if _admits(share, entry) and task.fits(entry):
                fitting[place].append(row)
                turns[place].append(numbered.setdefault(task.turn(entry), len(numbered)))
    eligible = tuple(np.array(rows, dtype=np.int64) for rows in fitting)
    jobs: dict[str, list[Rows]] = {split: [np.zeros((0, 3), np.int64)] for split in SPLITS}
    for place, share in enumerate(options.shares):
        rng = np.random.default_rng(share_seed(options, share))
        rows = _in_turn(eligible[place], np.array(turns[place], dtype=np.int64), share.pairs, rng)
        jobs[share.split].append(np.stack([np.full(len(rows), place), np.arange(len(rows)), rows], axis=1))
    mixed = {}
    for split, of_split in jobs.items():
        joined = np.concatenate(of_split)
        rng = np.random.default_rng([options.seed, zlib.crc32(split.encode())])
        mixed[split] = joined[rng.permutation(len(joined))]
    if not any(map(len, mixed.values())):
        raise CorpusError(
            "no recording fits any of the tasks asked for: see failures.csv, and the shares' filters"
        )
    return Plan(options, mixed, eligible)


def share_seed(options: BuildOptions, share: Share) -> list[int]:
    """Seed of all that is drawn for a share; it does not change when other shares do."""
    return [options.seed, zlib.crc32(share.name.encode())]


def _admits(share: Share, entry: Entry) -> bool:
    return (
        entry.split == share.split
        and (not share.novelty or entry.novelty in share.novelty)
        and (not share.sources or entry.recording.source in share.sources)
        and (share.realm == "any" or is_invented(entry) == (share.realm == "invented"))
    )


def _in_turn(rows: Rows, turns: Rows, pairs: int | None, rng: np.random.Generator) -> Rows:
    """Rows for the pairs of a share: subjects take turns, and within a subject its recordings do.

    A species with a thousand recordings is thus not asked about more often than one with ten.
    """
    if pairs is None:
        return rng.permutation(rows)
    if not len(rows):
        return rows
    order = np.argsort(turns, kind="stable")
    queues = np.split(rows[order], np.flatnonzero(np.diff(turns[order])) + 1)
    queues = [rng.permutation(queue) for queue in queues]
    chosen: list[int] = []
    turn = 0
    while len(chosen) < pairs:
        for place in rng.permutation(len(queues)):
            queue = queues[place]
            chosen.append(int(queue[turn % len(queue)]))
            if len(chosen) == pairs:
                break
        turn += 1
    return np.array(chosen, dtype=np.int64)
