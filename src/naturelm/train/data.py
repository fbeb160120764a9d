"""Rows of corpora to batches: read, decoded and resampled in loader processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from torch.utils.data import Dataset

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.storage import Corpus, decode
from naturelm.errors import NatureLMError
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.mixture import source_of


@dataclass(frozen=True)
class Example:
    """One pair, ready to be batched."""

    id: str
    task: str
    source: str
    question: str
    answer: str
    samples: FloatArray
    """(samples,) float32 in [-1, 1] at the ear's rate."""


@dataclass(frozen=True)
class Unreadable:
    """A row that cannot be read; an exception of a loader process would bury its message in a traceback."""

    message: str


class TrainingRows(Dataset[Example | Unreadable]):
    """The rows of one split of several corpora, one after another."""

    def __init__(self, corpora: Sequence[Corpus], sample_rate: int, clip_seconds: float) -> None:
        """sample_rate: Hz that the ear hears. clip_seconds: of a longer clip, only its beginning is heard."""
        self.corpora = tuple(corpora)
        self.sample_rate = sample_rate
        self.clip_seconds = clip_seconds
        self._ends = np.cumsum([len(corpus) for corpus in corpora])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> Example | Unreadable:
        number = int(np.searchsorted(self._ends, row, side="right"))
        corpus = self.corpora[number]
        own = row - (int(self._ends[number - 1]) if number else 0)
        try:
            pair = corpus[own]
            samples = decode(pair)[: round(self.clip_seconds * SAMPLE_RATE)]
        except NatureLMError as error:
            return Unreadable(f"{corpus.folder}, row {own} of {corpus.split}: {error}")
        if self.sample_rate != SAMPLE_RATE:
            samples = soxr.resample(samples, SAMPLE_RATE, self.sample_rate).astype(np.float32)
        return Example(
            id=pair.id,
            task=pair.task,
            source=source_of(pair.source_dataset),
            question=pair.instruction_text,
            answer=pair.output,
            samples=samples,
        )


@dataclass(frozen=True)
class AnswerCollator:
    """Examples to what the joint model is trained on, and beside it `examples`."""

    processor: NatureLMProcessor

    def __call__(self, examples: list[Example | Unreadable]) -> dict[str, Any]:
        good = [example for example in examples if isinstance(example, Example)]
        if len(good) < len(examples):
            return unreadable_batch(examples)
        batch = self.processor(
            [example.question for example in good],
            [example.samples for example in good],
            answers=[example.answer for example in good],
        )
        return {**batch, "examples": [without_sound(example) for example in good]}


def unreadable_batch(examples: list[Example | Unreadable]) -> dict[str, Any]:
    """The batch that stands for one with rows that cannot be read."""
    return {"unreadable": [example.message for example in examples if isinstance(example, Unreadable)]}


def without_sound(example: Example) -> Example:
    """The example but for its samples, which need not travel between processes twice."""
    return Example(
        example.id, example.task, example.source, example.question, example.answer, np.zeros(0, np.float32)
    )
