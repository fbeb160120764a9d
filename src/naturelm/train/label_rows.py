"""Pairs about the labels that a frozen ear has of its own, heard in embeddings that are made for them.

An ear such as BirdNET knows thousands of voices of which no recording is at hand. Its last layer has a direction
for each label; an embedding of a real clip is moved along it until that label is the likeliest, and stands among others
of real clips as they are, since one that stands alone would show that it is made. These clips hold no animal: its name
would be as right an answer. So a language model can be taught to
say what this ear hears. A tenth of the labels is never trained on, to see whether it says
names that it was not taught as well.
"""

import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from naturelm.corpus import prompts
from naturelm.corpus.prompts import Wording
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.train.data import Example, TrainingRows, Unreadable
from naturelm.train.mixture import MixtureRows
from naturelm.train.options import TrainError

LABEL_SOURCE = "ear-labels"
_HELD_OUT_SHARE = 10
_BACKGROUNDS = 100
_SCORES = (-1.0, 5.0)
"""From a quarter sure to certain: recordings from afar get no high scores."""
_MARGIN = 0.5
_OVERSHOOT = 0.05
_MOST_MOVES = 200
_WEAKER = 0.8
_MOST_OPTIONS = 8
_NONE_SHARE = 0.25
_STREAM = zlib.crc32(b"label-rows")
_TASKS = ("species-common", "species-common", "species-scientific", "detection", "detection-options")
_TOKENS = {"species-common": 26, "species-scientific": 28, "detection": 26, "detection-options": 66}
"""About as many as the mixture counts in pairs of a corpus that are as long: rows are grouped by it."""


@dataclass(frozen=True)
class EarLabel:
    """A label: what the ear can say."""

    common: str
    scientific: str

    @property
    def is_held_out(self) -> bool:
        """Whether it is kept out of training: a tenth of the labels, the same ones always."""
        return zlib.crc32(self.scientific.encode()) % _HELD_OUT_SHARE == 0

    @property
    def is_species(self) -> bool:
        """Whether it has a binomial name: `Engine` and `Dog` have not."""
        return " " in self.scientific and self.scientific[:1].isupper() and self.scientific != self.common


@dataclass(frozen=True)
class LabelEmbeddings:
    """Makes embeddings that an ear takes for a label.

    labels: of the ear. weight: (labels, size) and bias: (labels,) float32, the ear's last layer.
    backgrounds: (frames, size) float32, embeddings of real clips, those of one clip side by side.
    """

    labels: tuple[EarLabel, ...]
    weight: FloatArray
    bias: FloatArray
    backgrounds: FloatArray

    def make(self, label: int, score: float, rng: np.random.Generator, frames: int = 1) -> FloatArray:
        """(frames, size) float32 in which `label` is the likeliest, with about `score`, or what it takes, in one frame."""
        made = self._moved(label, score, rng)
        own = float(self.weight[label] @ made + self.bias[label])
        first = int(rng.integers(len(self.backgrounds)))
        others = [
            self._quieter(self.backgrounds[(first + i) % len(self.backgrounds)], own - _MARGIN)
            for i in range(frames - 1)
        ]
        others.insert(int(rng.integers(frames)), made)
        return np.stack(others).astype(np.float32)

    def _quieter(self, frame: FloatArray, below: float) -> FloatArray:
        """The frame, or a weaker one of which no label has that score."""
        for _ in range(_MOST_MOVES):
            if float((self.weight @ frame + self.bias).max()) < below:
                break
            frame = frame * _WEAKER
        return frame

    def _moved(self, label: int, score: float, rng: np.random.Generator) -> FloatArray:
        """(size,): a frame of a real clip, moved until the ear takes it for the label."""
        made = self.backgrounds[rng.integers(len(self.backgrounds))] * rng.uniform(0.2, 1)
        for _ in range(_MOST_MOVES):
            scores = self.weight @ made + self.bias
            own = float(scores[label])
            scores[label] = -np.inf
            rival = int(scores.argmax())
            # Away from the strongest rival, or, once it is beaten, towards the score.
            if own < scores[rival] + _MARGIN:
                direction, short = self.weight[label] - self.weight[rival], scores[rival] + _MARGIN - own
            elif own < score:
                direction, short = self.weight[label], score - own
            else:
                break
            # Embeddings are never below 0: what is cut off there falls short of the aim, hence several moves.
            made = np.maximum(made + (short + _OVERSHOOT) * direction / np.square(direction).sum(), 0)
        return made


class LabelRows:
    """`count` pairs about labels; row i is a pure function of the seed and i."""

    def __init__(
        self, embeddings: LabelEmbeddings, count: int, seed: int, clip_samples: Sequence[int]
    ) -> None:
        """clip_samples: of clips that give one frame, two, and so on to the most that a pair has."""
        self.embeddings = embeddings
        self.count = count
        self.seed = seed
        self._silence = [np.zeros(samples, np.float32) for samples in clip_samples]
        self._taught = [
            number
            for number, label in enumerate(embeddings.labels)
            if label.is_species and not label.is_held_out
        ]
        if not self._taught:
            raise TrainError("mixture.label_pairs: this ear has no label that is a species; set it to 0")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Example:
        rng = np.random.default_rng([self.seed, _STREAM, row])
        number = int(rng.choice(self._taught))
        task = _TASKS[row % len(_TASKS)]
        question, answer = self._pair(task, self.embeddings.labels[number], rng)
        length = int(rng.integers(len(self._silence)))
        frames = self.embeddings.make(number, rng.uniform(*_SCORES), rng, frames=1 + length)
        return Example(
            f"{LABEL_SOURCE}-{row}", task, LABEL_SOURCE, question, answer, self._silence[length], frames
        )

    def _pair(self, task: str, label: EarLabel, rng: np.random.Generator) -> tuple[str, str]:
        if task == "species-scientific":
            return _ask(prompts.SCIENTIFIC_NAME, rng), label.scientific
        if task == "detection":
            return _ask(prompts.DETECTION, rng), label.common
        if task == "detection-options":
            others = rng.choice(self._taught, size=int(rng.integers(2, _MOST_OPTIONS)), replace=False)
            offered = [self.embeddings.labels[int(other)].common for other in others]
            none = rng.random() < _NONE_SHARE
            if none:
                offered = [name for name in offered if name != label.common]
            elif label.common not in offered:
                offered[0] = label.common
            rng.shuffle(offered)
            question = _ask(prompts.DETECTION_OPTIONS, rng).format(options=", ".join(offered))
            return question, NONE_ANSWER if none else label.common
        return _ask(prompts.COMMON_NAME, rng), label.common


def label_columns(count: int) -> MixtureRows:
    """What the mixture needs to know of so many pairs about labels."""
    tasks = np.array([_TASKS[row % len(_TASKS)] for row in range(count)], dtype=object)
    sources = np.array([LABEL_SOURCE] * count, dtype=object)
    tokens = np.array([_TOKENS[task] for task in tasks], dtype=np.int64)
    return MixtureRows(tasks, sources, [()] * count, np.zeros(count), tokens)


def _ask(wording: Wording, rng: np.random.Generator) -> str:
    return wording.choose(rng, invented=False, first=False)


class AllRows(Dataset[Example | Unreadable]):
    """Rows of corpora, and after them pairs about labels: what `Mixture` numbers, in its order."""

    def __init__(self, rows: TrainingRows, labels: LabelRows | None) -> None:
        self.rows = rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows) + (len(self.labels) if self.labels else 0)

    def __getitem__(self, row: int) -> Example | Unreadable:
        if row < len(self.rows) or self.labels is None:
            return self.rows[row]
        return self.labels[row - len(self.rows)]


def clip_lengths(num_frames: Callable[[int], int], most_samples: int) -> tuple[int, ...]:
    """The fewest samples that give one frame, two, and so on to as many as `most_samples` give.

    num_frames: of so many samples.
    """
    return tuple(
        bisect_left(range(most_samples + 1), frames, key=num_frames)
        for frames in range(1, num_frames(most_samples) + 1)
    )


def background_rows(columns: MixtureRows, sources: Mapping[str, float]) -> list[int]:
    """Numbers of the rows without an animal; all if each has one.

    sources: weights of the mixture; rows with a source of weight 0 are left out.
    """
    without = {source for source, weight in sources.items() if weight == 0}
    kept = [
        number for number, joined in enumerate(columns.sources) if not without.intersection(joined.split("+"))
    ]
    return [number for number in kept if not columns.taxa[number]] or kept


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """Up to `most` of them, evenly spread."""
    step = max(1, -(-len(numbers) // most))
    return list(numbers[::step])


def label_embeddings(ear: object, rows: TrainingRows, backgrounds: Sequence[int]) -> LabelEmbeddings:
    """Of an ear with labels. TrainError if it has none, or is trained.

    backgrounds: numbers of the rows over whose sound embeddings are made.
    """
    directions = getattr(ear, "class_directions", None)
    if directions is None or rows.hear is None:
        raise TrainError("mixture.label_pairs: this ear has no labels of its own; set it to 0")
    labels, weight, bias = directions()
    heard = (rows[row] for row in spread(backgrounds, _BACKGROUNDS))
    frames = [each.frames for each in heard if isinstance(each, Example) and each.frames is not None]
    return LabelEmbeddings(
        tuple(EarLabel(label.common, label.scientific) for label in labels),
        weight,
        bias,
        np.concatenate(frames) if frames else np.zeros((1, weight.shape[1]), np.float32),
    )
