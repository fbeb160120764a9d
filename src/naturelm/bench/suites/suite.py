"""A suite: its questions, which are few and kept in memory, and their sound, which is read as it is asked for."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.matching import AnswerKind, answer_kind
from naturelm.bench.published import CAPTIONING, CLASSIFICATION, DETECTION, TASKS
from naturelm.bench.suites.files import (
    Files,
    SuiteError,
    column_names,
    read_cells,
    read_texts,
    tables_of_split,
)
from naturelm.bench.suites.sound import sound_of
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.errors import AudioError

MINI_PREFIX = "mini-"
"""What the components of the starter corpus begin with."""
_NEEDED = ("audio", "id", "dataset_name", "task", "output")
_PROMPTS = ("instruction_text", "instruction")
_READ = ("id", "dataset_name", "task", "output", *_PROMPTS, "options", "groups", "file_name", "metadata")
_PLACEHOLDER = re.compile(r"<Audio>.*?</Audio>\s*", re.DOTALL)
_MOST_REORDERED = 20_000
"""Rows of a suite that is asked component by component, so that rows of one closed set meet in a batch. The files of a
larger one are read once, from their beginning to their end."""
_KINDS = {AnswerKind.LABELS: DETECTION, AnswerKind.TEXT: CAPTIONING}


@dataclass(frozen=True, slots=True)
class SuiteRow:
    """A question without its sound."""

    id: str
    """Its own in its component."""
    dataset_name: str
    task: str
    """`classification`, `detection` or `captioning`."""
    prompt: str
    output: str
    """The right answer."""
    options: tuple[str, ...]
    """What the prompt offers to choose from; empty for an open question."""
    group: str
    """The recording that it is about, whose rows an interval draws together."""
    sample_rate: int | None
    """Hz, as its metadata has it."""
    table: int = field(repr=False)
    """Number of its file, and its row there."""
    place: int = field(repr=False)


@dataclass(frozen=True)
class Choice:
    """Which rows of a suite are asked; all, as it stands."""

    components: tuple[str, ...] | None = None
    limit: int | None = None
    """The first rows of each component: those that are had soonest."""
    sample: int | None = None
    """So many rows of each component, drawn with `seed`."""
    seed: int = 0


@dataclass(frozen=True)
class Suite:
    """Questions about clips, of one split of a data set."""

    files: Files
    tables: tuple[str, ...]
    rows: tuple[SuiteRow, ...]
    """Those that are asked: component by component, or as they stand in the files where they are very many."""
    labels: Mapping[str, tuple[str, ...]]
    """The closed set of each component: all distinct answers, or their parts where several can be right at once."""
    faults: tuple[str, ...] = ()
    """Rows that could not be used, and why."""
    absent: tuple[str, ...] = ()
    """Components that were asked for and have no usable row."""

    @cached_property
    def tasks(self) -> Mapping[str, str]:
        """How each component is scored."""
        return {row.dataset_name: row.task for row in self.rows}

    @cached_property
    def fingerprint(self) -> str:
        """Of all questions and answers: the same for the same data, wherever it lies."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update("\x1f".join((row.dataset_name, row.id, row.prompt, row.output)).encode())
            digest.update(b"\x1e")
        return digest.hexdigest()

    def closed_set(self, row: SuiteRow) -> tuple[str, ...]:
        """What a row may be answered with: its own options, else the component's labels; empty for a caption."""
        labels = row.options or self.labels.get(row.dataset_name, ())
        # That nothing is heard can be right of every detection, whether or not it is listed.
        missing = row.task == DETECTION and NONE_ANSWER not in labels
        return (*labels, NONE_ANSWER) if missing else labels

    def sounds(
        self, rows: Sequence[SuiteRow]
    ) -> Iterator[tuple[SuiteRow, tuple[FloatArray, int] | AudioError]]:
        """The sound of some rows and its rate in Hz, or why there is none; in their order, a few in memory.

        rows: in the order of the suite. Raises SuiteError where a file cannot be read.
        """
        for own in _stretches(rows):
            cells = read_cells(self.files, self.tables[own[0].table], "audio", [row.place for row in own])
            for row, (_, cell) in zip(own, cells, strict=True):
                try:
                    yield row, sound_of(cell, row.sample_rate, self.files, f"{row.dataset_name} {row.id}")
                except AudioError as error:
                    yield row, error


def _stretches(rows: Sequence[SuiteRow]) -> Iterator[list[SuiteRow]]:
    """Rows of one file that one pass over it gives."""
    stretch: list[SuiteRow] = []
    for row in rows:
        if stretch and (row.table != stretch[-1].table or row.place <= stretch[-1].place):
            yield stretch
            stretch = []
        stretch.append(row)
    if stretch:
        yield stretch


def open_suite(files: Files, choice: Choice | None = None, *, split: str = "test") -> Suite:
    """The rows of a split that are chosen; of components without any row the names are kept.

    Raises SuiteError where there is no row at all, or a file or a column is missing.
    """
    choice = choice or Choice()
    tables = tables_of_split(files, split)
    faults: list[str] = []
    rows: list[SuiteRow] = []
    seen: Counter[tuple[str, str]] = Counter()
    for number, name in enumerate(tables):
        for place, values in enumerate(_texts(files, name)):
            row = _row(values, number, place, seen)
            if isinstance(row, str):
                faults.append(f"{files.place(name)}, row {place}: {row}")
            else:
                rows.append(row)
    chosen = _chosen(files.name, rows, choice)
    there = {row.dataset_name for row in rows}
    absent = tuple(name for name in choice.components or () if name not in there)
    return Suite(files, tuple(tables), tuple(chosen), _labels(rows), tuple(faults), absent)


def _texts(files: Files, name: str) -> list[dict[str, Any]]:
    """The rows of a table without their sound."""
    found = column_names(files, name)
    missing = [column for column in _NEEDED if column not in found]
    if not set(_PROMPTS) & set(found):
        missing.append(" or ".join(_PROMPTS))
    if missing:
        raise SuiteError(
            f"{files.place(name)}: no column {', '.join(missing)}; it has {', '.join(found)}: is this the data set?"
        )
    table: pa.Table = read_texts(files, name, [column for column in _READ if column in found])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _row(values: Mapping[str, Any], table: int, place: int, seen: Counter[tuple[str, str]]) -> SuiteRow | str:
    """A row, or why it is none."""
    name, output = values["dataset_name"], values["output"]
    if not isinstance(name, str) or not name.strip():
        return "it has no dataset_name"
    if not isinstance(output, str) or not output.strip():
        return f"it has no output, which is the right answer of a row of {name}"
    prompt = next((values[key] for key in _PROMPTS if isinstance(values.get(key), str) and values[key]), "")
    prompt = _PLACEHOLDER.sub("", prompt).strip()
    if not prompt:
        return f"it has no instruction, which is the question of a row of {name}"
    task = _task(name, values["task"])
    if task is None:
        return f"{name} is no component of BEANS-Zero, and its task {values['task']!r} is not known"
    id = str(values["id"] if values["id"] is not None else place)
    seen[name, id] += 1
    if seen[name, id] > 1:
        id = f"{id}#{seen[name, id]}"
    metadata = _metadata(values.get("metadata"))
    groups = values.get("groups")
    rate = metadata.get("sample_rate")
    return SuiteRow(
        id=id,
        dataset_name=name,
        task=task,
        prompt=prompt,
        output=output.strip(),
        options=tuple(map(str, values.get("options") or ())),
        group=str(groups[0] if groups else metadata.get("recording") or values.get("file_name") or id),
        sample_rate=int(rate) if isinstance(rate, int | float) and abs(rate) < 1e9 else None,
        table=table,
        place=place,
    )


def _task(name: str, given: object) -> str | None:
    if name in TASKS:
        return TASKS[name]
    if given in {CLASSIFICATION, DETECTION, CAPTIONING}:
        # A corpus's own task of this name has lists of labels, as BEANS-Zero's has.
        return str(given)
    return _KINDS.get(answer_kind(given), CLASSIFICATION) if isinstance(given, str) and given else None


def _metadata(text: object) -> dict[str, Any]:
    try:
        values = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _labels(rows: Sequence[SuiteRow]) -> dict[str, tuple[str, ...]]:
    """Closed sets by component: as they are published, else from all rows, also those that are not asked."""
    facts = beans_zero_components()
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        labels = found.setdefault(row.dataset_name, {})
        if row.task == DETECTION:
            labels |= {part.strip(): None for part in row.output.split(",")}
        elif row.task == CLASSIFICATION:
            labels[row.output] = None
    return {
        name: facts[name].labels if name in facts and _covers(facts[name].labels, labels) else _sorted(labels)
        for name, labels in found.items()
    }


def _covers(published: Sequence[str], found: Mapping[str, None]) -> bool:
    return set(found) <= {*published, NONE_ANSWER}


def _sorted(labels: Mapping[str, None]) -> tuple[str, ...]:
    return tuple(sorted(labels))


def _chosen(name: str, rows: Sequence[SuiteRow], choice: Choice) -> list[SuiteRow]:
    by_component: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_component.setdefault(row.dataset_name, []).append(number)
    asked = tuple(by_component) if choice.components is None else choice.components
    wanted = [component for component in asked if component in by_component]
    if not wanted:
        there = ", ".join(sorted(by_component)) or "none"
        raise SuiteError(f"{name}: no rows of {', '.join(asked) or 'any component'}; there are: {there}")
    kept: list[int] = []
    for component in wanted:
        numbers = by_component[component]
        if choice.sample is not None and choice.sample < len(numbers):
            # Of each component's own, so that what is drawn does not depend on the others.
            rng = np.random.default_rng([choice.seed, *component.encode()])
            numbers = sorted(rng.choice(numbers, choice.sample, replace=False).tolist())
        kept += numbers[: choice.limit]
    chosen = [rows[number] for number in sorted(set(kept))]
    if len(chosen) <= _MOST_REORDERED:
        place = {name: number for number, name in enumerate(by_component)}
        chosen.sort(key=lambda row: place[row.dataset_name])  # stable: within a component as it stands
    return chosen
