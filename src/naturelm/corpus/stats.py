"""What is in a corpus: pairs, clips and hours by source, task, taxon and licence, and how answers spread.

Only the columns that are needed are read, in batches, and never the sound. What is kept of a pair is
about 100 bytes; with what sorting takes, two million pairs need some 600 MB and half a minute.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.corpus.options import CorpusError
from naturelm.corpus.schema import NONE_ANSWER, SPLITS
from naturelm.corpus.storage import TAXONOMY, Corpus, read_manifest, shard_paths
from naturelm.corpus.taxonomy import Taxonomy

_BATCH = 4096
_NOTHING: npt.NDArray[np.int64] = np.zeros(0, np.int64)
_COLUMNS = (
    "file_name", "source_dataset", "task", "output", "options", "labels", "taxa", "recordings", "license", "duration",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Pairs that have something in common."""

    key: tuple[str, ...]
    pairs: int
    clips: int
    """Different clips (by file name): several pairs may ask about one."""
    hours: float
    """Of those clips."""
    recordings: int
    """Different recordings that are heard in them."""


@dataclass(frozen=True)
class Breakdown:
    """All pairs, grouped. A pair with several taxa is in the group of each."""

    name: str
    headings: tuple[str, ...]
    """What the parts of each group's key are."""
    groups: tuple[Group, ...]
    """The largest first, splits in their own order."""


@dataclass(frozen=True)
class AnswerCounts:
    """How the answers to one task spread."""

    task: str
    pairs: int
    different: int
    """Different answers."""
    none_share: float
    """Share of the pairs whose answer is `None`."""
    frequent: tuple[tuple[str, int], ...]
    """The most frequent answers and how many pairs have them."""
    option_lists: int
    """Pairs that offer options."""
    right_places: tuple[int, ...]
    """How many right options stand first, second, ... in their lists."""
    expected_places: tuple[float, ...]
    """The same if options were in random order: what differs much from it, a model can lean on."""
    unplaced: int
    """Right answers that are not among the options: a fault that `naturelm corpus check` explains."""


@dataclass(frozen=True)
class CorpusStatistics:
    """All of it."""

    name: str
    total: Group
    sources: Breakdown
    """By split and source."""
    tasks: Breakdown
    taxa: Breakdown
    """By scientific and common name; pairs without an animal are in none."""
    licenses: Breakdown
    answers: tuple[AnswerCounts, ...]

    @property
    def breakdowns(self) -> tuple[Breakdown, ...]:
        """Every table of groups."""
        return (self.sources, self.tasks, self.taxa, self.licenses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "total": _group_values(self.total, ()),
            **{
                table.name: [_group_values(group, table.headings) for group in table.groups]
                for table in self.breakdowns
            },
            "answers": [asdict(counts) for counts in self.answers],
        }


def open_splits(folder: Path, split: str | None = None) -> dict[str, Corpus]:
    """The splits that a corpus has, or one of them. CorpusError where it, or all of them, are missing."""
    counts = read_manifest(folder).get("counts")
    if split is not None:
        return {split: Corpus(folder, split)}
    named = set(counts) if isinstance(counts, dict) else set()
    # A split that the manifest counts must be there; one that it does not, may.
    there = {name: Corpus(folder, name) for name in SPLITS if name in named or _has_shards(folder, name)}
    if not there:
        raise CorpusError(f"{folder}: no shards of any split; build the corpus again")
    return there


def corpus_statistics(folder: Path, *, split: str | None = None, frequent: int = 10) -> CorpusStatistics:
    """Count a corpus, or one split of it. frequent: how many of each task's answers to name.

    Raises CorpusError, and TaxonomyError for a damaged `taxonomy.csv`; without that file common names
    are empty.
    """
    corpora = open_splits(folder, split)
    ledger = _Ledger()
    for name, corpus in corpora.items():
        for batch in _batches(corpus, _COLUMNS):
            ledger.enter(name, batch)
    columns = ledger.columns()
    common = _common_names(folder)
    taxa = [(name, common.get(name, "")) for (name,) in ledger.taxa.keys]
    total = columns.groups(np.zeros(columns.pairs, np.int64), [("all",)], range(columns.pairs))
    return CorpusStatistics(
        name=str(read_manifest(folder).get("name", folder.name)),
        total=total[0] if total else Group(("all",), 0, 0, 0.0, 0),
        sources=Breakdown(
            "sources", ("split", "source"), _by_split(columns.by(ledger.sources, columns.source))
        ),
        tasks=Breakdown("tasks", ("task",), columns.by(ledger.tasks, columns.task)),
        taxa=Breakdown(
            "taxa",
            ("scientific_name", "common_name"),
            columns.groups(columns.taxon, taxa, columns.taxon_pair),
        ),
        licenses=Breakdown("licenses", ("license",), columns.by(ledger.licenses, columns.license)),
        answers=_answers(ledger, columns, corpora, frequent),
    )


def write_csv_tables(statistics: CorpusStatistics, folder: Path) -> tuple[Path, ...]:
    """Write one CSV file a table, and tell which. CorpusError if the folder cannot be written."""
    sizes = ("pairs", "clips", "hours", "recordings")
    tables: dict[str, tuple[Sequence[str], list[Sequence[object]]]] = {
        table.name: (
            (*table.headings, *sizes),
            [(*group.key, group.pairs, group.clips, group.hours, group.recordings) for group in table.groups],
        )
        for table in statistics.breakdowns
    }
    answers = statistics.answers
    tables["tasks_answers"] = (
        ("task", "pairs", "different", "none_share", "option_lists", "unplaced"),
        [(of.task, of.pairs, of.different, of.none_share, of.option_lists, of.unplaced) for of in answers],
    )
    tables["answers"] = (
        ("task", "answer", "pairs"),
        [(of.task, answer, pairs) for of in answers for answer, pairs in of.frequent],
    )
    tables["option_places"] = (
        ("task", "place", "right", "expected"),
        [
            (of.task, place, right, expected)
            for of in answers
            for place, (right, expected) in enumerate(
                zip(of.right_places, of.expected_places, strict=True), 1
            )
        ],
    )
    paths = tuple(folder / f"{name}.csv" for name in tables)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (headings, rows) in zip(paths, tables.values(), strict=True):
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([headings, *rows])
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return paths


def hours_text(hours: float) -> str:
    """Hours with as many decimals as tell small corpora apart."""
    return f"{hours:,.1f}" if hours >= 100 else f"{hours:.2f}" if hours >= 1 else f"{hours:.4f}"


class _Codes:
    """Numbers for keys, in the order in which they are met."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, ...], int] = {}

    def __getitem__(self, key: tuple[str, ...]) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    @property
    def keys(self) -> list[tuple[str, ...]]:
        return list(self.numbers)


@dataclass
class _Places:
    """Where right options stand, for one task."""

    lists: int
    right: npt.NDArray[np.int64]
    expected: npt.NDArray[np.float64]
    unplaced: int


class _Ledger:
    """What is kept of each pair: numbers for its texts, as arrays of one batch each.

    Names of clips and recordings, and answers, are kept as 64-bit hashes: two of a
    million names have the same one by chance in less than one of ten million corpora.
    """

    def __init__(self) -> None:
        self.sources, self.tasks, self.taxa, self.licenses = _Codes(), _Codes(), _Codes(), _Codes()
        self.places: dict[str, _Places] = {}
        self._parts: list[_Columns] = []
        self._pairs = 0

    def enter(self, split: str, batch: pa.RecordBatch) -> None:
        of = {name: batch.column(name).to_pylist() for name in _COLUMNS}
        pairs = np.arange(self._pairs, self._pairs + batch.num_rows)
        self._pairs += batch.num_rows
        taxon, taxon_pair = _flat(
            [[self.taxa[(name,)] for name in dict.fromkeys(row or ())] for row in of["taxa"]], pairs
        )
        recording, recording_pair = _flat(
            [[hash(name) for name in row or ()] for row in of["recordings"]], pairs
        )
        for task, options, labels in zip(of["task"], of["options"], of["labels"], strict=True):
            if options:
                self._place(task or "", options, labels or ())
        self._parts.append(
            _Columns(
                source=np.array(
                    [self.sources[(split, name or "")] for name in of["source_dataset"]], np.int64
                ),
                task=np.array([self.tasks[(name or "",)] for name in of["task"]], np.int64),
                license=np.array([self.licenses[(name or "",)] for name in of["license"]], np.int64),
                clip=np.array([hash(name) for name in of["file_name"]], np.int64),
                seconds=np.array(of["duration"], np.float64),
                answer=np.array([hash(text) for text in of["output"]], np.int64),
                taxon=taxon,
                taxon_pair=taxon_pair,
                recording=recording,
                recording_pair=recording_pair,
            )
        )

    def columns(self) -> "_Columns":
        return _Columns.joined(self._parts)

    def _place(self, task: str, options: Sequence[str], labels: Sequence[str]) -> None:
        known = self.places.setdefault(task, _Places(0, _NOTHING, np.zeros(0), 0))
        known.lists += 1
        if len(options) > len(known.right):
            known.right = np.pad(known.right, (0, len(options) - len(known.right)))
            known.expected = np.pad(known.expected, (0, len(options) - len(known.expected)))
        for label in labels:
            if label in options:
                known.right[options.index(label)] += 1
                known.expected[: len(options)] += 1 / len(options)
            else:
                known.unplaced += 1


@dataclass(frozen=True)
class _Columns:
    """All pairs. `taxon` and `recording` have one row for each that a pair holds, beside the pair's number."""

    source: npt.NDArray[np.int64]
    task: npt.NDArray[np.int64]
    license: npt.NDArray[np.int64]
    clip: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    answer: npt.NDArray[np.int64]
    taxon: npt.NDArray[np.int64]
    taxon_pair: npt.NDArray[np.int64]
    recording: npt.NDArray[np.int64]
    recording_pair: npt.NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence["_Columns"]) -> "_Columns":
        joined: dict[str, Any] = {
            field.name: np.concatenate([_NOTHING, *(getattr(part, field.name) for part in parts)])
            for field in fields(cls)
        }
        return cls(**joined)

    @property
    def pairs(self) -> int:
        return len(self.clip)

    def by(self, codes: _Codes, of_pairs: npt.NDArray[np.int64]) -> tuple[Group, ...]:
        return self.groups(of_pairs, codes.keys, np.arange(self.pairs))

    def groups(
        self,
        codes: npt.NDArray[np.int64],
        keys: Sequence[tuple[str, ...]],
        pairs: Sequence[int] | npt.NDArray[np.int64],
    ) -> tuple[Group, ...]:
        """codes[i] is the group of pairs[i]; keys[code] its name."""
        count = len(keys)
        rows = np.asarray(pairs, np.int64)
        once = _first_of_each(codes, self.clip[rows])
        hours = np.bincount(codes[once], weights=self.seconds[rows[once]], minlength=count) / 3600
        clips = np.bincount(codes[once], minlength=count)
        # Every recording of every pair of the group.
        starts = np.searchsorted(self.recording_pair, rows, "left")
        ends = np.searchsorted(self.recording_pair, rows, "right")
        held = np.repeat(codes, ends - starts)
        within = np.arange(len(held)) - np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
        heard = self.recording[np.repeat(starts, ends - starts) + within]
        recordings = np.bincount(held[_first_of_each(held, heard)], minlength=count)
        sizes = np.bincount(codes, minlength=count)
        made = [
            Group(key, int(sizes[n]), int(clips[n]), float(hours[n]), int(recordings[n]))
            for n, key in enumerate(keys)
            if sizes[n]
        ]
        return tuple(sorted(made, key=lambda group: (-group.pairs, group.key)))


def _first_of_each(codes: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of the first of each different (code, value)."""
    order = np.lexsort((values, codes))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(codes[order]) != 0) | (np.diff(values[order]) != 0)
    return order[new]


def _flat(
    lists: Sequence[Sequence[int]], pairs: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Values of all lists, and the pair that each belongs to."""
    lengths = [len(values) for values in lists]
    return np.array([value for values in lists for value in values], np.int64), np.repeat(pairs, lengths)


def _answers(
    ledger: _Ledger, columns: _Columns, corpora: Mapping[str, Corpus], frequent: int
) -> tuple[AnswerCounts, ...]:
    order = np.lexsort((columns.answer, columns.task))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(columns.task[order]) != 0) | (np.diff(columns.answer[order]) != 0)
    starts = np.flatnonzero(new)
    counts = np.diff([*starts, len(order)])
    examples = order[starts]  # lexsort is stable: the first pair with that answer
    none = hash(NONE_ANSWER)
    found: list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for number, (task,) in enumerate(ledger.tasks.keys):
        of_task = np.flatnonzero(columns.task[examples] == number)
        best = of_task[np.lexsort((examples[of_task], -counts[of_task]))]
        found.append((task, examples[best], counts[best]))
    wanted = np.unique(np.concatenate([rows[:frequent] for _, rows, _ in found])) if found else _NOTHING
    texts = dict(zip(wanted.tolist(), _outputs(corpora, wanted), strict=True))
    made = []
    for task, rows, sizes in found:
        places = ledger.places.get(task) or _Places(0, _NOTHING, np.zeros(0), 0)
        total = int(sizes.sum())
        nones = int(sizes[columns.answer[rows] == none].sum())
        made.append(
            AnswerCounts(
                task=task,
                pairs=total,
                different=len(rows),
                none_share=nones / total,
                frequent=tuple(
                    (texts[row], size)
                    for row, size in zip(rows[:frequent].tolist(), sizes[:frequent].tolist(), strict=True)
                ),
                option_lists=places.lists,
                right_places=tuple(places.right.tolist()),
                expected_places=tuple(round(expected, 2) for expected in places.expected.tolist()),
                unplaced=places.unplaced,
            )
        )
    return tuple(sorted(made, key=lambda of: (-of.pairs, of.task)))


def _outputs(corpora: Mapping[str, Corpus], rows: npt.NDArray[np.int64]) -> Iterator[str]:
    """Answers of these pairs, numbered over all splits, in rising order."""
    first = 0
    for corpus in corpora.values():
        for batch in _batches(corpus, ("output",)):
            inside = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
            yield from batch.column("output").take(pa.array(inside)).to_pylist()
            first += batch.num_rows


def _batches(corpus: Corpus, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for path in corpus.paths:
        try:
            with pq.ParquetFile(path) as shard:
                yield from shard.iter_batches(_BATCH, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{path}: not readable ({error}); build the corpus again") from error


def _has_shards(folder: Path, split: str) -> bool:
    try:
        return bool(shard_paths(folder, split))
    except CorpusError:
        return False


def _common_names(folder: Path) -> dict[str, str]:
    path = folder / TAXONOMY
    if not path.is_file():
        return {}
    return {taxon.scientific_name: taxon.common_name for taxon in Taxonomy.from_csv(path)}


def _by_split(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: (SPLITS.index(group.key[0]), -group.pairs, group.key)))


def _group_values(group: Group, headings: Sequence[str]) -> dict[str, Any]:
    values = {name: value for name, value in asdict(group).items() if name != "key"}
    return {**dict(zip(headings, group.key, strict=False)), **values}
