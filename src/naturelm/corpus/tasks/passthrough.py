"""An archive's own questions and answers, as they are."""

from dataclasses import dataclass

import numpy as np

from naturelm.corpus.library import Entry
from naturelm.corpus.tasks.base import Draft, Studio, SubjectsTakeTurns

_AUDIO_PLACE = "<Audio><AudioHere></Audio>"


@dataclass(frozen=True)
class Own(SubjectsTakeTurns):
    """What the archive asks about the recording."""

    name: str = "own"

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return bool(entry.recording.instruction and entry.recording.answer)

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`. The sound is cut to the clip's length and otherwise left alone."""
        question = entry.recording.instruction.replace(_AUDIO_PLACE, "").strip()
        answer = entry.recording.answer
        scene = studio.scene([entry], rng, allowed=frozenset(), noise=False)
        return Draft(scene, question, answer, () if answer == "None" else (answer,))
