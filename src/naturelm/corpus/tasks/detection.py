"""Which animals are there, if any: openly, from a list, and several in one clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from naturelm.corpus import prompts
from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry
from naturelm.corpus.scene import Scene
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.corpus.tasks.base import (
    Draft,
    Studio,
    SubjectsTakeTurns,
    UnusablePair,
    keeps_name,
    label_changes,
    shuffled,
)
from naturelm.corpus.tasks.naming import common_name


def _named_animal(entry: Entry) -> bool:
    """Whether all that is heard in a recording can be named."""
    taxa = entry.all_taxa
    return (
        entry.recording.kind == "animal"
        and bool(taxa)
        and all(common_name(taxon) for taxon in taxa)
        and keeps_name(entry)
    )


def _names_in_order(scene: Scene) -> tuple[str, ...]:
    """Names of all that is heard, in the order in which it is first heard."""
    placed = sorted(scene.placed, key=lambda part: part.onset)
    return tuple(dict.fromkeys(common_name(taxon) for part in placed for taxon in part.entry.all_taxa))


def _ensemble(entry: Entry, most: int, studio: Studio, rng: np.random.Generator) -> list[Entry]:
    """The recording, and up to `most - 1` of other species."""
    wanted = int(rng.integers(0, most))
    return [entry, *studio.cast.others(entry, wanted, rng, fit=_named_animal)]


def _scene(
    focal: Sequence[Entry], studio: Studio, rng: np.random.Generator, *, noise: bool | None = None
) -> Scene:
    """A clip of these; UnusablePair for a recording of several species that is longer than a clip.

    Which of them are in which part of it is not known.
    """
    for entry in focal:
        if len(entry.all_taxa) > 1 and entry.duration > studio.options.seconds:
            raise UnusablePair(f"{entry.key}: of several species, and longer than a clip")
    allowed = label_changes(focal[0]) if focal else frozenset()
    return studio.scene(focal, rng, allowed=allowed, noise=noise)


def _events(scene: Scene) -> list[dict[str, object]]:
    return [
        {"label": common_name(taxon), "start": round(part.start, 3), "end": round(part.end, 3)}
        for part in scene.placed
        for taxon in part.entry.all_taxa
    ]


@dataclass(frozen=True)
class Detection(SubjectsTakeTurns):
    """What are the species in the audio, if any?"""

    name: str = "detection"
    none_share: float = 0.25
    """Share of clips with noise alone, or silence, answered `None`."""
    silence_share: float = 0.15
    """Of those, the share without any noise."""
    most: int = 3
    """Species in one clip."""

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _named_animal(entry)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        question = studio.ask(prompts.DETECTION, rng, invented=is_invented(entry))
        if rng.random() < self.none_share:
            scene = studio.scene([], rng, noise=bool(rng.random() >= self.silence_share))
            return Draft(scene, question, NONE_ANSWER, ())
        focal = _ensemble(entry, self.most, studio, rng)
        scene = _scene(focal, studio, rng)
        names = _names_in_order(scene)
        return Draft(scene, question, ", ".join(names), names, details={"events": _events(scene)})


@dataclass(frozen=True)
class DetectionOptions(SubjectsTakeTurns):
    """Which of these, if any, are present?"""

    name: str = "detection-options"
    none_share: float = 0.3
    """Share of questions whose list names nothing that is heard; half of those clips are noise alone."""
    most: int = 3
    most_options: int = 8

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _named_animal(entry)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        none = rng.random() < self.none_share
        empty = none and rng.random() < 0.5
        focal: Sequence[Entry] = [] if empty else _ensemble(entry, self.most, studio, rng)
        scene = _scene(focal, studio, rng, noise=True if empty else None)
        names = () if none else _names_in_order(scene)
        heard = [taxon for other in (focal or [entry]) for taxon in other.all_taxa]
        count = int(rng.integers(max(2, len(names) + 1), self.most_options + 1)) - len(names)
        invented = is_invented(entry)
        wrong = studio.cast.wrong_taxa(heard, count, rng, invented=invented, name=common_name)
        if not wrong:
            raise UnusablePair(f"{entry.key}: there is no other name to offer")
        options = shuffled([*names, *wrong], rng)
        question = studio.ask(prompts.DETECTION_OPTIONS, rng, invented=invented).format(
            options=", ".join(options)
        )
        output = ", ".join(names) or NONE_ANSWER
        return Draft(scene, question, output, names, options, {"events": _events(scene)})


@dataclass(frozen=True)
class Several(SubjectsTakeTurns):
    """Several species in one clip: name them all."""

    name: str = "species-several"
    most: int = 3

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return _named_animal(entry)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        wanted = int(rng.integers(1, self.most))
        others = studio.cast.others(entry, wanted, rng, fit=_named_animal)
        scene = _scene([entry, *others], studio, rng)
        names = _names_in_order(scene)
        if len(names) < 2:
            raise UnusablePair(f"{entry.key}: there is no other species to put beside it")
        question = studio.ask(prompts.SEVERAL, rng, invented=is_invented(entry))
        return Draft(scene, question, ", ".join(names), names, details={"events": _events(scene)})
