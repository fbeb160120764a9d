"""One sentence about the clip: the archive's own, or one made from what it says."""

from dataclasses import dataclass

import numpy as np

from naturelm.corpus import prompts
from naturelm.corpus.augment import COLOURING
from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry
from naturelm.corpus.tasks.base import (
    Draft,
    Studio,
    SubjectsTakeTurns,
    UnusablePair,
    keeps_name,
    one_focal_animal,
)
from naturelm.corpus.tasks.facts import stated_call_type, stated_life_stage
from naturelm.corpus.tasks.naming import common_name

_VERBS = {
    "song": ("sings", "is singing"),
    "call": ("calls", "is calling"),
    "alarm call": ("gives an alarm call", "calls in alarm"),
    "flight call": ("gives a flight call", "calls in flight"),
    "begging call": ("begs for food", "gives begging calls"),
    "drumming": ("drums", "is drumming"),
    "duet": ("sings a duet",),
    "": ("is heard", "can be heard"),
}
_CONSONANT_SOUNDS = ("eu", "one-", "ural", "uni")
"""`a Eurasian nuthatch`, `a Ural owl`."""


@dataclass(frozen=True)
class Caption(SubjectsTakeTurns):
    """Caption the audio."""

    name: str = "caption"
    least_share: float = 0.5
    """Of a recording's active sound that a clip must hold, if the archive's own sentence is to be true of it."""

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        if entry.recording.caption:
            return True
        return one_focal_animal(entry) and bool(common_name(entry.taxa[0])) and keeps_name(entry)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        own = entry.recording.caption
        # A sentence that tells all that is heard is no longer true with something else mixed in.
        scene = studio.scene([entry], rng, allowed=COLOURING, noise=False if own else None)
        if own:
            part = scene.placed[0]
            if entry.activity.share_within(part.crop, part.crop + part.end - part.start) < self.least_share:
                raise UnusablePair(f"{entry.key}: its caption tells of more than this part of it")
        text = own or _sentence(entry, scene.noise, scene.snr_db, rng, fixed=studio.first_wording)
        question = studio.ask(prompts.CAPTION, rng, invented=is_invented(entry))
        return Draft(scene, question, text, (text,))


def _sentence(
    entry: Entry, noise: Entry | None, snr_db: float | None, rng: np.random.Generator, *, fixed: bool
) -> str:
    name = common_name(entry.taxa[0])
    stage, call = stated_life_stage(entry.recording), stated_call_type(entry.recording)
    verbs = _VERBS.get(call, _VERBS[""])
    verb = verbs[0] if fixed else str(rng.choice(verbs))
    animal = f"{stage} {name}" if stage and stage != "adult" else name
    vowel = animal[0].lower() in "aeiou" and not animal.lower().startswith(_CONSONANT_SOUNDS)
    article = "an" if vowel else "a"
    behind = ""
    # Noise 10 dB below the call is hardly there; a caption would not mention it.
    if noise is not None and noise.recording.labels and snr_db is not None and snr_db < 10:
        behind = f", with {noise.recording.labels[0]} in the background"
    return f"{article.capitalize()} {animal} {verb}{behind}."
