"""What else is known of the animal: life stage, call type, sex, and how many there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from naturelm.corpus import prompts
from naturelm.corpus.augment import COLOURING, Change
from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry
from naturelm.corpus.prompts import Wording
from naturelm.corpus.recordings import Recording
from naturelm.corpus.tasks.base import (
    Draft,
    Studio,
    SubjectsTakeTurns,
    UnusablePair,
    one_focal_animal,
    shuffled,
)

# Archives' own words on the left; what is asked for and scored on the right.
LIFE_STAGES: Mapping[str, str] = {
    "adult": "adult",
    "juvenile": "juvenile",
    "immature": "juvenile",
    "subadult": "juvenile",
    "fledgling": "juvenile",
    "young": "juvenile",
    "nestling": "nestling",
    "chick": "nestling",
    "pup": "pup",
    "calf": "calf",
    "larva": "larva",
}
CALL_TYPES: Mapping[str, str] = {
    "song": "song",
    "subsong": "song",
    "dawn song": "song",
    "call": "call",
    "contact call": "call",
    "alarm call": "alarm call",
    "alarm": "alarm call",
    "flight call": "flight call",
    "begging call": "begging call",
    "drumming": "drumming",
    "duet": "duet",
    "advertisement call": "advertisement call",
    "mating call": "advertisement call",
    "aggressive call": "aggressive call",
    "distress call": "distress call",
    "feeding buzz": "feeding buzz",
    "echolocation": "echolocation",
}
SEXES: Mapping[str, str] = {"male": "male", "female": "female", "m": "male", "f": "female"}


def stated_life_stage(recording: Recording) -> str:
    """The life stage in our words; empty if none is stated, or one that we have no word for."""
    return LIFE_STAGES.get(recording.life_stage.strip().lower(), "")


def stated_call_type(recording: Recording) -> str:
    """The call type in our words; empty if none is stated, or several are."""
    known = {CALL_TYPES.get(text.strip().lower(), "") for text in recording.call_types}
    return known.pop() if len(known) == 1 else ""


def stated_sex(recording: Recording) -> str:
    """Sex in our words; empty if none is stated."""
    return SEXES.get(recording.sex.strip().lower(), "")


@dataclass(frozen=True)
class Fact:
    """A question with a small set of answers about the focal animal."""

    name: str
    wording: Wording
    stated: Callable[[Recording], str]
    answers: tuple[str, ...]
    """What may be offered as options."""
    options_share: float = 0.4
    allowed: frozenset[Change] = COLOURING
    """Speed and stretch are left out: a faster call is a younger or more alarmed animal's."""

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        asked = bool(self.wording.invented) or not is_invented(entry)
        return asked and one_focal_animal(entry) and bool(self.stated(entry.recording))

    def turn(self, entry: Entry) -> str:
        """See `Task`. So that no answer is the usual one."""
        return self.stated(entry.recording)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer, invented = self.stated(entry.recording), is_invented(entry)
        scene = studio.scene([entry], rng, allowed=self.allowed)
        if studio.first_wording or rng.random() >= self.options_share:
            return Draft(scene, studio.ask(self.wording, rng, invented=invented), answer, (answer,))
        wrong = [other for other in self.answers if other != answer]
        count = int(rng.integers(1, min(len(wrong), 4) + 1))
        options = shuffled([answer, *shuffled(wrong, rng)[:count]], rng)
        question = studio.ask_with_options(self.wording, options, rng, invented=invented)
        return Draft(scene, question, answer, (answer,), options)


LIFE_STAGE = Fact("life-stage", prompts.LIFE_STAGE, stated_life_stage, ("adult", "juvenile", "nestling"))
CALL_TYPE = Fact(
    "call-type",
    prompts.CALL_TYPE,
    stated_call_type,
    ("song", "call", "alarm call", "flight call", "begging call", "drumming"),
)
SEX = Fact("sex", prompts.SEX, stated_sex, ("male", "female"))


@dataclass(frozen=True)
class Counting(SubjectsTakeTurns):
    """How many individuals: exactly, or one or more, as for the zebra finches of BEANS-Zero."""

    name: str
    exact: bool
    most: int = 4

    def fits(self, entry: Entry) -> bool:
        """See `Task`. A recording is taken for one individual's where its archive does not say otherwise;
        mixing it with others needs to know whose it is."""
        recording = entry.recording
        known = bool(recording.group or recording.recordist) and recording.count in {None, 1}
        # Of invented animals single calls: of songs and alarms, few would fit into a clip side by side.
        short = not is_invented(entry) or recording.call_types == ("call",)
        if not one_focal_animal(entry) or entry.background:
            return False
        # Two "birds" may be of two species.
        return entry.taxa[0].rank in {"species", "subspecies"} and known and short

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        fellows = studio.cast.fellows(entry, self.most - 1, rng, fit=self.fits)
        if not fellows:
            # Not even for a clip of one: the name of a species recorded once would give the answer away.
            raise UnusablePair(f"{entry.key}: no other individual of its species was recorded")
        if self.exact:
            wanted = int(rng.integers(1, self.most + 1))
        else:
            wanted = 1 if rng.random() < 0.5 else int(rng.integers(2, len(fellows) + 2))
        if len(fellows) < wanted - 1:
            raise UnusablePair(f"{entry.key}: fewer than {wanted} individuals of its species were recorded")
        scene = studio.scene([entry, *fellows[: wanted - 1]], rng, apart=True)
        wording = prompts.COUNT if self.exact else prompts.ONE_OR_MORE
        answer = str(wanted) if self.exact else ("One" if wanted == 1 else "More")
        question = studio.ask(wording, rng, invented=is_invented(entry))
        return Draft(scene, question, answer, (answer,), details={"individuals": wanted})


COUNT = Counting("count", exact=True)
ONE_OR_MORE = Counting("one-or-more", exact=False)
