"""Third stage of a build: which pair is made from which recording. A pure function of options and library."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.options import BuildOptions, CorpusError, Share
from naturelm.corpus.schema import SPLITS
from naturelm.corpus.tasks import TASKS, Task


@dataclass(frozen=True)
class Job:
    """One pair to make."""

    share: int
    """Place in `BuildOptions.shares`."""
    number: int
    """Counts within the share."""
    row: int
    """Recording to make it from, a row of the library."""


@dataclass(frozen=True)
class Plan:
    """Jobs of all splits, in the order in which they are stored."""

    jobs: dict[str, tuple[Job, ...]]
    eligible: dict[int, tuple[int, ...]]
    """Rows that fit each share: another is tried where a recording turns out not to do."""


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
    fitting: dict[int, list[int]] = {place: [] for place in range(len(tasks))}
    subjects: list[str] = []
    for row, entry in enumerate(library):
        subjects.append(_subject(entry))
        for place, (share, task) in enumerate(zip(options.shares, tasks, strict=True)):
            if _admits(share, entry) and task.fits(entry):
                fitting[place].append(row)
    jobs: dict[str, list[Job]] = {split: [] for split in SPLITS}
    for place, share in enumerate(options.shares):
        rng = np.random.default_rng(share_seed(options, share))
        rows = _in_turn(fitting[place], subjects, share.pairs, rng)
        jobs[share.split].extend(Job(place, number, row) for number, row in enumerate(rows))
    if not any(jobs.values()):
        raise CorpusError(
            "no recording fits any of the tasks asked for: see failures.csv, and the shares' filters"
        )
    for split, of_split in jobs.items():
        order = np.random.default_rng([options.seed, zlib.crc32(split.encode())]).permutation(len(of_split))
        jobs[split] = [of_split[place] for place in order]
    return Plan(
        {split: tuple(of_split) for split, of_split in jobs.items()},
        {place: tuple(rows) for place, rows in fitting.items()},
    )


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


def _subject(entry: Entry) -> str:
    """What a recording is of, for taking turns: the taxon, or else the label, speaker or instrument."""
    recording = entry.recording
    if entry.taxa:
        return entry.taxa[0].scientific_name
    return (*recording.labels, recording.recordist, recording.instrument, "")[0]


def _in_turn(
    rows: Sequence[int], subjects: Sequence[str], pairs: int | None, rng: np.random.Generator
) -> list[int]:
    """Rows for the pairs of a share: subjects take turns, and within a subject its recordings do.

    A species with a thousand recordings is thus not asked about more often than one with ten.
    """
    if pairs is None:
        return [int(row) for row in rng.permutation(np.array(rows, dtype=np.int64))]
    if not rows:
        return []
    of: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        of[subjects[row]].append(row)
    queues = [[int(row) for row in rng.permutation(of[subject])] for subject in sorted(of)]
    chosen: list[int] = []
    turn = 0
    while len(chosen) < pairs:
        for place in rng.permutation(len(queues)):
            queue = queues[place]
            chosen.append(queue[turn % len(queue)])
            if len(chosen) == pairs:
                break
        turn += 1
    return chosen
