"""Which pairs are in the batch of a step: a pure function of seed and step.

Nothing is remembered between steps, so training goes on exactly from any of them, with any number of loader
workers and processes. Drawing is by epochs, and an epoch is made when a step of it is asked for.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from naturelm.corpus.storage import Corpus
from naturelm.train.options import MixtureOptions, TrainError, WarmUpOptions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]

_BATCHES_SORTED_TOGETHER = 50
_STREAM = zlib.crc32(b"mixture")
"""Keeps these random numbers apart from others that are drawn with the same seed."""
_TOKENS_PER_SECOND = 3
_CHARACTERS_PER_TOKEN = {"instruction_text": 4, "output": 3}
_SECONDS_OF_GRACE = 1e-3
"""Durations are stored in float32: 10.1 s would be longer than 10.1 s."""
_NO_TAXON = -1


@dataclass(frozen=True)
class MixtureRows:
    """What the mixture needs to know of every training row, of several corpora one after the other."""

    tasks: Names
    """(rows,) of str."""
    sources: Names
    """(rows,) of str: `source_dataset`, of several sources joined by `+`."""
    taxa: Sequence[tuple[str, ...]]
    seconds: Floats
    """(rows,)"""
    tokens: Integers
    """(rows,) about how many tokens audio, question and answer take: what rows are grouped by."""

    def __len__(self) -> int:
        return len(self.tasks)


def source_of(source_dataset: str) -> str:
    """The source that a row counts for: the first of those that are joined by `+`."""
    return source_dataset.partition("+")[0]


def mixture_rows(corpora: Sequence[Corpus]) -> MixtureRows:
    """Rows of some corpora, numbered on from one corpus to the next; the sound is not read.

    Tokens are estimated as round(seconds * 3) + len(instruction_text) // 4 + len(output) // 3. This need not
    be exact: it only decides which rows share a batch. TrainError if a corpus has values of the wrong kind.
    """
    return joined_rows([_rows_of(corpus) for corpus in corpora])


def joined_rows(parts: Sequence[MixtureRows]) -> MixtureRows:
    """Rows one after another."""
    return MixtureRows(
        tasks=np.concatenate([np.empty(0, object), *(part.tasks for part in parts)]),
        sources=np.concatenate([np.empty(0, object), *(part.sources for part in parts)]),
        taxa=[taxa for part in parts for taxa in part.taxa],
        seconds=np.concatenate([np.empty(0), *(part.seconds for part in parts)]),
        tokens=np.concatenate([np.empty(0, np.int64), *(part.tokens for part in parts)]),
    )


def _rows_of(corpus: Corpus) -> MixtureRows:
    table = corpus.table(["task", "source_dataset", "taxa", "duration", *_CHARACTERS_PER_TOKEN])
    try:
        seconds = table["duration"].to_numpy().astype(np.float64)
        tokens = np.rint(seconds * _TOKENS_PER_SECOND)
        for column, characters in _CHARACTERS_PER_TOKEN.items():
            tokens += pc.utf8_length(table[column]).to_numpy() // characters
        tasks, sources = _names(table["task"]), _names(table["source_dataset"])
        taxa = _tuples(table["taxa"])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TrainError(
            f"{corpus.folder}: values of the wrong kind in its {corpus.split} split ({error}); "
            "build the corpus again"
        ) from error
    # A missing text or duration has become NaN.
    wrong = np.count_nonzero(~(np.isfinite(tokens) & (seconds >= 0)))
    if wrong:
        raise TrainError(
            f"{corpus.folder}: {wrong} pairs of its {corpus.split} split have no text or no usable duration; "
            "build the corpus again"
        )
    return MixtureRows(tasks, sources, taxa, seconds, tokens.astype(np.int64))


def _names(column: pa.ChunkedArray) -> Names:
    """A column of text in which equal texts are one object."""
    encoded = column.fill_null("").combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    kept: Names = names[encoded.indices.to_numpy()] if len(names) else np.empty(0, object)
    return kept


def _tuples(column: pa.ChunkedArray) -> list[tuple[str, ...]]:
    """A column of lists in which equal lists are one object."""
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}
    tuples = (tuple(entry or ()) for chunk in column.chunks for entry in chunk.to_pylist())
    return [kept.setdefault(entry, entry) for entry in tuples]


class Mixture:
    """Draws rows in shares that the options set.

    A task's share is weight * rows ** (1 / temperature), where capped taxa count as the cap says. Within a
    task a row weighs as its first source does; rows with the same first taxon weigh together no more than
    `taxon_cap` rows of weight 1. Rows without taxon are not capped. Tasks of which no row is left have no share.

    An epoch has as many draws as rows are left in, rounded down to whole batches (one at least). It is a
    systematic sample: every row comes as often as expected, rounded down or up, and so do every task and, in
    it, every taxon. The sample is shuffled, and rows of like length share a batch: runs of 50 batches are
    sorted by length, cut into batches, and the batches shuffled.
    """

    def __init__(self, rows: MixtureRows, options: MixtureOptions, *, batch_size: int, seed: int) -> None:
        """Raises TrainError if no row is left in, or for a task or source that is in no row."""
        self.batch_size = batch_size
        self._seed = seed
        tasks, task_names = _numbered(rows.tasks)
        row_weights, task_weights = _weights(rows, tasks, task_names, options)
        left_in = np.flatnonzero(row_weights)
        if not len(left_in):
            raise TrainError(
                f"mixture: none of the {len(rows)} training pairs is left in; "
                "see its `tasks`, `without_tasks`, `sources`, `max_seconds` and `unmixed`"
            )
        tasks, row_weights = tasks[left_in], row_weights[left_in]
        taxa = _first_taxa(rows.taxa[row] for row in left_in.tolist())
        scales = _cap_scales(tasks, taxa, row_weights, options.taxon_cap)
        shares = task_weights * np.bincount(tasks, scales, len(task_weights)) ** (1 / options.temperature)
        row_weights = row_weights * scales
        within_task = row_weights / np.bincount(tasks, row_weights, len(task_weights))[tasks]
        drawn = within_task * (shares / shares.sum())[tasks]

        self.probabilities: Floats = np.zeros(len(rows))
        """(rows,) expected share of each row in all draws; sums to 1."""
        self.probabilities[left_in] = drawn
        self.steps_per_epoch = max(1, len(left_in) // batch_size)
        self._lengths = rows.tokens
        # Rows of a task, and in it of a taxon, stand together, so that the systematic sample does justice to both.
        order = np.lexsort((taxa, tasks))
        self._ordered = left_in[order]
        self._cumulative = np.cumsum(drawn[order])
        self._cumulative /= self._cumulative[-1]
        self._epoch: tuple[int, Integers] | None = None

    def batch(self, step: int) -> Integers:
        """(batch_size,) rows of a step, counted from 0, the shortest first."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(epoch))
        return self._epoch[1][place].copy()

    def _batches(self, epoch: int) -> Integers:
        """(steps_per_epoch, batch_size) rows of an epoch."""
        rng = np.random.default_rng([self._seed, _STREAM, epoch])
        draws = rng.permutation(self._sample(rng.random()))
        runs = np.arange(self.steps_per_epoch) // _BATCHES_SORTED_TOGETHER
        # Both sorts keep the runs where they are; the first keeps equal lengths in their shuffled order.
        by_length = np.lexsort((self._lengths[draws], np.repeat(runs, self.batch_size)))
        batches = draws[by_length].reshape(-1, self.batch_size)
        shuffled: Integers = batches[np.lexsort((rng.random(len(batches)), runs))]
        return shuffled

    def _sample(self, offset: float) -> Integers:
        """(draws,) rows under evenly spaced points, the first at `offset` in [0, 1) of the spacing."""
        draws = self.steps_per_epoch * self.batch_size
        points_up_to = np.ceil(self._cumulative * draws - offset).astype(np.int64)
        points_up_to[-1] = draws
        return np.repeat(self._ordered, np.diff(points_up_to, prepend=0))


def _weights(
    rows: MixtureRows, tasks: Integers, task_names: Sequence[str], options: MixtureOptions
) -> tuple[Floats, Floats]:
    """(rows,) weight of each row by its sources, 0 if it is left out, and (tasks,) weight of each task."""
    sources, source_names = _numbered(rows.sources)
    parts = [name.split("+") for name in source_names]
    _require_known("tasks", options.tasks, task_names)
    _require_known("without_tasks", options.without_tasks, task_names)
    _require_known("sources", options.sources, {part for joined in parts for part in joined})

    without = {source for source, weight in options.sources.items() if weight == 0}
    source_weights = np.array(
        [
            0.0 if without.intersection(joined) else options.sources.get(source_of(name), 1.0)
            for name, joined in zip(source_names, parts, strict=True)
        ]
    )
    others = 0.0 if options.tasks else 1.0
    task_weights = np.array(
        [0.0 if name in options.without_tasks else options.tasks.get(name, others) for name in task_names]
    )
    weights: Floats = source_weights[sources]
    weights[task_weights[tasks] == 0] = 0.0
    if options.max_seconds is not None:
        weights[rows.seconds > options.max_seconds + _SECONDS_OF_GRACE] = 0.0
    if options.unmixed:
        weights[np.array([len(joined) > 1 for joined in parts], bool)[sources]] = 0.0
        weights[np.fromiter((len(taxa) > 1 for taxa in rows.taxa), bool, len(rows))] = 0.0
    return weights, task_weights


def _cap_scales(tasks: Integers, taxa: Integers, weights: Floats, taxon_cap: int | None) -> Floats:
    """(rows,) what each row's weight is multiplied with, so that no taxon of a task weighs more than the cap."""
    if taxon_cap is None:
        return np.ones(len(weights))
    _, taxon_of_task = np.unique(tasks * (taxa.max() + 2) + taxa, return_inverse=True)
    scales = np.minimum(1.0, taxon_cap / np.bincount(taxon_of_task, weights))[taxon_of_task]
    return np.where(taxa == _NO_TAXON, 1.0, scales)


def _numbered(names: Iterable[str]) -> tuple[Integers, list[str]]:
    """Number of each name, and the names by number."""
    numbers: dict[str, int] = {}
    numbered = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64)
    return numbered, list(numbers)


def _first_taxa(taxa: Iterable[tuple[str, ...]]) -> Integers:
    """Number of the first taxon of each row."""
    numbers: dict[str, int] = {}
    first = (numbers.setdefault(of[0], len(numbers)) if of else _NO_TAXON for of in taxa)
    return np.fromiter(first, np.int64)


def _require_known(key: str, given: Iterable[str], known: Iterable[str]) -> None:
    missing = sorted(set(given) - set(known))
    if missing:
        raise TrainError(
            f"mixture.{key}: no training pair has {', '.join(map(repr, missing))}; "
            f"there are: {', '.join(sorted(known)) or 'none'}"
        )


class Draws(Protocol):
    """What gives each step its rows."""

    batch_size: int

    def batch(self, step: int) -> Integers:
        """(batch_size,) rows of a step, counted from 0, the shortest first."""


class OneAfterAnother:
    """Mixtures that take turns: each for a number of steps, the last for all that follow."""

    def __init__(self, first: Sequence[tuple[int, Draws]], last: Draws) -> None:
        """first: how many steps each of them takes, in order. All have the same batch size."""
        self.batch_size = last.batch_size
        self._parts = [*(draws for _, draws in first), last]
        self._ends = list(accumulate(steps for steps, _ in first))

    def batch(self, step: int) -> Integers:
        """(batch_size,) rows of a step, counted from 0, the shortest first."""
        place = bisect_right(self._ends, step)
        return self._parts[place].batch(step - (self._ends[place - 1] if place else 0))


def with_lessons(rows: MixtureRows, wanted: MixtureOptions, options: WarmUpOptions, seed: int) -> Draws:
    """What the warm-up draws: its lessons, and then what is wanted."""

    def mixture(drawn: MixtureOptions) -> Mixture:
        return Mixture(rows, drawn, batch_size=options.batch_size, seed=seed)

    first = [
        (
            lesson.steps,
            mixture(replace(wanted, tasks=dict.fromkeys(lesson.tasks, 1.0), unmixed=lesson.unmixed)),
        )
        for lesson in options.lessons
    ]
    return OneAfterAnother(first, mixture(wanted))


class StepBatches:
    """Micro-batches of one process, in order: a `batch_sampler` for torch's DataLoader.

    A step's batch, sorted by length, is cut into micro-batches; process r of P takes those whose number leaves
    r when divided by P. So all do equally many, and those that are done at one time are of like length.
    """

    def __init__(
        self,
        mixture: Draws,
        *,
        steps: int,
        first_step: int,
        micro_batch_size: int,
        rank: int,
        processes: int,
    ) -> None:
        """Steps `first_step` to `steps` - 1. TrainError if the batch cannot be shared out evenly."""
        require_even(mixture.batch_size, micro_batch_size, processes)
        self._mixture = mixture
        self._steps = range(first_step, steps)
        self._micro_batch_size = micro_batch_size
        self._rank = rank
        self._processes = processes

    def __len__(self) -> int:
        at_once = self._micro_batch_size * self._processes
        return len(self._steps) * (self._mixture.batch_size // at_once)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            micro_batches = self._mixture.batch(step).reshape(-1, self._micro_batch_size)
            yield from micro_batches[self._rank :: self._processes].tolist()


def require_even(batch_size: int, micro_batch_size: int, processes: int) -> None:
    """TrainError unless processes can share a batch out evenly; it names a size that they can."""
    at_once = micro_batch_size * processes
    if batch_size % at_once:
        nearest = max(1, round(batch_size / at_once)) * at_once
        raise TrainError(
            f"batch_size: {batch_size} is no multiple of micro_batch_size * processes = {micro_batch_size} * "
            f"{processes} = {at_once}; the nearest is {nearest}, or change micro_batch_size"
        )
