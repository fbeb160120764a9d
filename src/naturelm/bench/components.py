"""Held-out components of a corpus: their questions, right answers and closed sets, without the sound."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from naturelm.bench.matching import AnswerKind, answer_kind, normalise
from naturelm.corpus.options import CorpusError
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.corpus.storage import Corpus

Item = TypeVar("Item")
MOST_CHOICES = 300
"""Labels of the largest closed set that is asked for."""
_COLUMNS = (
    "id", "dataset_name", "task", "instruction_text", "output", "options", "labels", "taxa", "groups", "metadata",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A question of a corpus, without its sound."""

    number: int
    """In its split: what `Corpus` finds it by."""
    id: str
    component: str
    task: str
    question: str
    answer: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    taxa: tuple[str, ...]
    group: str
    """What its interval is drawn by: the group of its first recording, which is what the question is about."""
    invented: bool
    """Whether it asks about the invented fauna, as its wording says."""
    heard: tuple[str, ...]
    """Every label that the clip is known to hold, also those that are not asked for."""

    @property
    def kind(self) -> AnswerKind:
        """What its answer is made of."""
        return answer_kind(self.task)


@dataclass(frozen=True)
class Component:
    """Rows of one split that are scored together."""

    name: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    """All distinct answers of the whole component, also where `rows` is a part of it; sorted."""

    @property
    def task(self) -> str:
        """The task of its rows."""
        return self.rows[0].task

    @property
    def kind(self) -> AnswerKind:
        """What its answers are made of."""
        return self.rows[0].kind

    @cached_property
    def real_animals(self) -> bool:
        """Whether its answers name real animals, so that who is taken for whom is worth a table."""
        return self.kind is AnswerKind.NAME and all(row.taxa and not row.invented for row in self.rows)

    def choices(self, row: Row) -> tuple[str, ...]:
        """The closed set of a row; empty where there is none.

        The row's own options if it offers some, with `None` where that may be the answer; otherwise all
        answers of the component. Lists of labels, sentences and sets of more than 300 answers have none.
        """
        if row.options:
            return _distinct((*row.options, *((NONE_ANSWER,) if self.kind is AnswerKind.LABELS else ())))
        if self.kind in {AnswerKind.LABELS, AnswerKind.TEXT} or not 2 <= len(self.labels) <= MOST_CHOICES:
            return ()
        return self.labels


def read_rows(corpus: Corpus) -> list[Row]:
    """All rows of a split, in order."""
    table = corpus.table(_COLUMNS).to_pylist()
    return [_row(number, values) for number, values in enumerate(table)]


def read_components(
    folder: Path, *, split: str = "test", names: Sequence[str] | None = None, limit: int | None = None
) -> list[Component]:
    """The components of a split, by name.

    names: those wanted, default all. limit: of larger components so many rows, spread evenly.
    Raises CorpusError for a name that is not there and for what is not a corpus.
    """
    rows: dict[str, list[Row]] = {}
    for row in read_rows(Corpus(folder, split)):
        rows.setdefault(row.component, []).append(row)
    if names is not None:
        unknown = sorted(set(names) - set(rows))
        if unknown:
            raise CorpusError(
                f"{folder}: no component {', '.join(unknown)} in {split}; there are: {', '.join(sorted(rows))}"
            )
        rows = {name: rows[name] for name in set(names)}
    return [
        Component(name, tuple(spread(of, limit)), _distinct(sorted(row.answer for row in of)))
        for name, of in sorted(rows.items())
    ]


def spread(items: Sequence[Item], most: int | None) -> list[Item]:
    """At most so many of the items, evenly spread, in order."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _row(number: int, values: dict[str, object]) -> Row:
    details = _details(str(values["id"]), str(values["metadata"]))
    groups = _texts(values["groups"])
    labels = _texts(values["labels"])
    events = details.get("events")
    heard = (
        tuple(str(event["label"]) for event in events if isinstance(event, dict) and "label" in event)
        if isinstance(events, list)
        else labels
    )
    return Row(
        number=number,
        id=str(values["id"]),
        component=str(values["dataset_name"]),
        task=str(values["task"]),
        question=str(values["instruction_text"]),
        answer=str(values["output"]),
        options=_texts(values["options"]),
        labels=labels,
        taxa=_texts(values["taxa"]),
        group=groups[0] if groups else str(values["id"]),
        invented=bool(details.get("invented")),
        heard=_distinct(heard),
    )


def _details(identifier: str, metadata: str) -> dict[str, object]:
    try:
        details = json.loads(metadata)
    except ValueError as error:
        raise CorpusError(
            f"row {identifier}: its metadata is not JSON ({error}); build the corpus again"
        ) from error
    return details if isinstance(details, dict) else {}


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()


def _distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels without those that are equal to an earlier one as they are scored."""
    kept: dict[str, str] = {}
    for label in labels:
        kept.setdefault(normalise(label), label.strip())
    kept.pop("", None)
    return tuple(kept.values())
