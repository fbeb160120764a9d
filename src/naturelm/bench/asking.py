"""A model's answers to held-out rows: written freely, and chosen from a closed set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from naturelm.answer.results import Answer, Clip, GenerationOptions, Query
from naturelm.audio import SAMPLE_RATE
from naturelm.bench.components import Component, Row
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.storage import Corpus, decode
from naturelm.errors import NatureLMError

_ROWS_AT_ONCE = 32
"""Rows that are handed to the model together, which makes batches of like ones among them."""


class Answerer(Protocol):
    """What is scored. `naturelm.NatureLM` is one."""

    @property
    def sampling_rate(self) -> int:
        """Hz of the clips that it takes."""

    def read_clip(self, source: FloatArray, *, source_rate: int) -> Clip:
        """(samples,) at `source_rate` Hz as a clip. Raises AudioError."""

    def answer(self, queries: Sequence[Query], options: GenerationOptions | None = None) -> list[Answer]:
        """Answer queries of any mixture, in their order; the same clip of several is heard once."""


@dataclass(frozen=True)
class Given:
    """What was answered to a row."""

    row: Row
    written: str = ""
    choice: str = ""
    """The likeliest label of its closed set; empty where there is none."""
    probability: float = 0.0
    """Of that label, among the set."""
    error: str = ""
    """Why it could not be answered; empty if it was."""


def ask_component(
    answerer: Answerer,
    corpus: Corpus,
    component: Component,
    *,
    choices: bool = True,
    advance: Callable[[int], None] = lambda rows: None,
) -> list[Given]:
    """Answers to all rows of a component, in order.

    choices: choose from closed sets as well as write. advance: told how many rows have just been answered.
    A row that cannot be read or answered comes back with its error.
    """
    given: list[Given] = []
    for first in range(0, len(component.rows), _ROWS_AT_ONCE):
        rows = component.rows[first : first + _ROWS_AT_ONCE]
        sets = {row.id: component.choices(row) if choices else () for row in rows}
        given += _ask_rows(answerer, corpus, rows, sets)
        advance(len(rows))
    return given


def _ask_rows(
    answerer: Answerer, corpus: Corpus, rows: Sequence[Row], sets: dict[str, tuple[str, ...]]
) -> Iterator[Given]:
    clips: dict[str, Clip] = {}
    errors: dict[str, str] = {}
    for row in rows:
        try:
            clips[row.id] = _clip(answerer, decode(corpus[row.number]))
        except NatureLMError as error:
            errors[row.id] = str(error)
    heard = [row for row in rows if row.id in clips]
    try:
        answered = {given.row.id: given for given in _answer(answerer, heard, clips, sets)}
    except NatureLMError:
        # One of them cannot be answered: each alone, so that the others are.
        answered = {row.id: _answer_alone(answerer, row, clips, sets) for row in heard}
    for row in rows:
        yield answered.get(row.id) or Given(row, error=errors[row.id])


def _clip(answerer: Answerer, samples: FloatArray) -> Clip:
    if np.any(samples):
        return answerer.read_clip(samples, source_rate=SAMPLE_RATE)
    # A recording of nothing but zeros is refused, since its recorder failed. A held-out row of silence is a
    # question: the answer is `None`.
    seconds = len(samples) / SAMPLE_RATE
    return Clip(np.zeros(round(seconds * answerer.sampling_rate), np.float32), end=seconds)


def _answer(
    answerer: Answerer, rows: Sequence[Row], clips: dict[str, Clip], sets: dict[str, tuple[str, ...]]
) -> list[Given]:
    closed = [row for row in rows if sets[row.id]]
    queries = [Query((clips[row.id],), row.question) for row in rows]
    queries += [Query((clips[row.id],), row.question, sets[row.id]) for row in closed]
    answers = answerer.answer(queries)
    chosen = {row.id: answer for row, answer in zip(closed, answers[len(rows) :], strict=True)}
    return [
        Given(row, written.text, chosen[row.id].text, chosen[row.id].probability)
        if row.id in chosen
        else Given(row, written.text)
        for row, written in zip(rows, answers[: len(rows)], strict=True)
    ]


def _answer_alone(
    answerer: Answerer, row: Row, clips: dict[str, Clip], sets: dict[str, tuple[str, ...]]
) -> Given:
    try:
        return _answer(answerer, [row], clips, sets)[0]
    except NatureLMError as error:
        return Given(row, error=str(error))
