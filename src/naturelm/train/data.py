"""Rows of corpora to batches: read, decoded and resampled in loader processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.storage import Corpus, decode
from naturelm.errors import NatureLMError
from naturelm.model.ear import EarOutput
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.mixture import source_of


@dataclass(frozen=True)
class Fbank:
    """What a BEATs ear begins with, made already."""

    frames: FloatArray
    """(frames, mel bins) float32, as `BeatsModel.normalised_fbank` makes them."""
    samples: int
    """Of the clip, at the ear's rate."""


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
    frames: FloatArray | None = None
    """(frames, size) float32, what a frozen ear made of it; None where the model is to hear it itself."""
    fbank: Fbank | None = None
    """In place of `samples`, which are empty then; None where the ear is to make it."""


@dataclass(frozen=True)
class Unreadable:
    """A row that cannot be read; an exception of a loader process would bury its message in a traceback."""

    message: str


Hear = Callable[[FloatArray], FloatArray]
"""(samples,) at the ear's rate to (frames, size)."""


class TrainingRows(Dataset[Example | Unreadable]):
    """The rows of one split of several corpora, one after another."""

    def __init__(
        self, corpora: Sequence[Corpus], sample_rate: int, clip_seconds: float, hear: Hear | None = None
    ) -> None:
        """sample_rate: Hz that the ear hears. clip_seconds: of a longer clip, only its beginning is heard.

        hear: a frozen ear, which hears each clip here.
        """
        self.hear = hear
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
            if self.sample_rate != SAMPLE_RATE:
                samples = soxr.resample(samples, SAMPLE_RATE, self.sample_rate).astype(np.float32)
            frames = None if self.hear is None else self.hear(samples)
        except NatureLMError as error:
            return Unreadable(f"{corpus.folder}, row {own} of {corpus.split}: {error}")
        return Example(
            id=pair.id,
            task=pair.task,
            source=source_of(pair.source_dataset),
            question=pair.instruction_text,
            answer=pair.output,
            samples=samples,
            frames=frames,
        )


@dataclass(frozen=True)
class AnswerCollator:
    """Examples to what the joint model is trained on, and beside it `examples`."""

    processor: NatureLMProcessor

    def __call__(self, examples: list[Example | Unreadable]) -> dict[str, Any]:
        good = [example for example in examples if isinstance(example, Example)]
        if len(good) < len(examples):
            return unreadable_batch(examples)
        text = self.processor.text_batch(
            [example.question for example in good],
            [[len(example.samples)] for example in good],
            [example.answer for example in good],
        )
        return {
            **text,
            **sound_batch(good, self.processor),
            "examples": [without_sound(example) for example in good],
        }


def sound_batch(examples: Sequence[Example], processor: NatureLMProcessor) -> dict[str, Any]:
    """input_values and input_features_mask; `heard`, where a frozen ear has heard every example; `fbank` in place
    of input_values, where every example has it."""
    fbanks = [example.fbank for example in examples if example.fbank is not None]
    if fbanks and len(fbanks) == len(examples):
        samples = torch.tensor([fbank.samples for fbank in fbanks])
        return {
            "fbank": pad_sequence([torch.from_numpy(each.frames) for each in fbanks], batch_first=True),
            "input_features_mask": torch.arange(int(samples.max())) < samples.unsqueeze(1),
        }
    frames = [example.frames for example in examples if example.frames is not None]
    if len(frames) < len(examples):
        return dict(processor.feature_extractor([example.samples for example in examples]))
    lengths = torch.tensor([len(own) for own in frames])
    padded = pad_sequence([torch.from_numpy(own) for own in frames], batch_first=True)
    return {"heard": EarOutput(padded, torch.arange(padded.shape[1]) < lengths.unsqueeze(1))}


def unreadable_batch(examples: list[Example | Unreadable]) -> dict[str, Any]:
    """The batch that stands for one with rows that cannot be read."""
    return {"unreadable": [example.message for example in examples if isinstance(example, Unreadable)]}


def without_sound(example: Example) -> Example:
    """The example but for its samples, which need not travel between processes twice."""
    return Example(
        example.id, example.task, example.source, example.question, example.answer, np.zeros(0, np.float32)
    )
