"""What a task is: it says which recordings it can ask about, and makes one pair from one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from naturelm.corpus.augment import COLOURING, Change
from naturelm.corpus.cast import Cast, is_invented
from naturelm.corpus.library import Entry
from naturelm.corpus.prompts import OPTION_LISTS, Wording
from naturelm.corpus.scene import Scene, SceneOptions, UnusablePair, compose


@dataclass(frozen=True)
class Draft:
    """A pair before it is stored."""

    scene: Scene
    instruction: str
    """The prompt, without the audio's place in it."""
    output: str
    labels: tuple[str, ...]
    """The answer in parts; empty for `None`."""
    options: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
    """For the metadata column."""


@dataclass(frozen=True)
class Studio:
    """Where pairs of one split are made."""

    cast: Cast
    options: SceneOptions
    first_wording: bool = False
    """Whether questions are always in their first wording, as in held-out rows."""

    def scene(
        self,
        focal: Sequence[Entry],
        rng: np.random.Generator,
        *,
        allowed: frozenset[Change] = COLOURING,
        apart: bool = False,
        noise: bool | None = None,
    ) -> Scene:
        """A clip of these recordings; noise: whether there is a background, None to leave it to chance."""
        wanted = rng.random() < self.options.augment.noise_probability if noise is None else noise
        background = self.cast.noise(rng) if wanted else None
        return compose(focal, background, self.options, rng, allowed=allowed, apart=apart)

    def ask(self, wording: Wording, rng: np.random.Generator, *, invented: bool = False) -> str:
        """The question."""
        return wording.choose(rng, invented=invented, first=self.first_wording)

    def ask_with_options(
        self, wording: Wording, options: Sequence[str], rng: np.random.Generator, *, invented: bool = False
    ) -> str:
        """The question with a list to choose its one answer from."""
        question = self.ask(wording, rng, invented=invented)
        frame = OPTION_LISTS.choose(rng, invented=False, first=self.first_wording)
        return frame.format(question=question, options=", ".join(options))


class Task(Protocol):
    """A kind of question."""

    @property
    def name(self) -> str:
        """Its name, as the `task` column has it."""
        ...

    def fits(self, entry: Entry) -> bool:
        """Whether it can be asked about this recording."""
        ...

    def turn(self, entry: Entry) -> str:
        """What takes turns: of a share's pairs, each value of this has as many as every other."""
        ...

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """A pair about this recording. Raises UnreadableRecording or UnusablePair, and another is drawn."""
        ...


class SubjectsTakeTurns:
    """For tasks whose answers are as many as their subjects: each taxon, label or speaker in turn."""

    def turn(self, entry: Entry) -> str:
        """See `Task`. The taxon, or else the label, instrument or speaker."""
        recording = entry.recording
        if entry.taxa:
            return entry.taxa[0].scientific_name
        return next(filter(None, (*recording.labels, recording.instrument, recording.recordist)), "")


def shuffled(names: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """In random order: models lean on the place of an option."""
    return tuple(str(name) for name in rng.permutation(np.array(names, dtype=object)))


def one_focal_animal(entry: Entry) -> bool:
    """Whether a question about the focal species has one answer, whoever else calls behind it."""
    return entry.recording.kind == "animal" and len(entry.taxa) == 1


def keeps_name(entry: Entry) -> bool:
    """Whether the recording is of a kind by which its species can be told.

    Invented animals are named by traits which some of their calls and ages change.
    """
    if not is_invented(entry):
        return True
    from naturelm.corpus.fauna import identifies

    recording = entry.recording
    return identifies(recording.call_types[0], recording.life_stage)  # type: ignore[arg-type]


def label_changes(entry: Entry) -> frozenset[Change]:
    """Changes under which a species' name stays true: an invented animal's pitch and tempo are its name."""
    if is_invented(entry):
        return COLOURING
    return COLOURING | {"speed", "stretch"}


__all__ = [
    "Draft",
    "Studio",
    "SubjectsTakeTurns",
    "Task",
    "UnusablePair",
    "keeps_name",
    "label_changes",
    "one_focal_animal",
    "shuffled",
]
