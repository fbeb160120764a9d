"""Speech by the voices of espeak-ng: other speakers in held-out clips than in training."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Failure, FileSound, Recording

NAME = "espeak-ng"
_SENTENCES = 8
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan")
# Variant, sex as espeak-ng itself states it, and the speaker's split.
_SPEAKERS = (
    ("m1", "male", "train"),
    ("m2", "male", "test"),
    ("m3", "male", "train"),
    ("m4", "male", "train"),
    ("m5", "male", "validation"),
    ("m6", "male", "train"),
    ("m7", "male", "train"),
    ("m8", "male", "test"),
    ("Andy", "male", "train"),
    ("Lee", "male", "test"),
    ("Denis", "male", "train"),
    ("Marco", "male", "train"),
    ("Hugo", "male", "train"),
    ("victor", "male", "train"),
    ("travis", "male", "train"),
    ("f1", "female", "train"),
    ("f2", "female", "test"),
    ("f3", "female", "train"),
    ("f4", "female", "train"),
    ("f5", "female", "test"),
    ("Alicia", "female", "train"),
    ("Annie", "female", "train"),
    ("Andrea", "female", "validation"),
    ("anika", "female", "train"),
    ("aunty", "female", "train"),
    ("belinda", "female", "train"),
    ("grandma", "female", "train"),
    ("linda", "female", "train"),
    ("steph", "female", "test"),
    ("steph2", "female", "train"),
)
_WHO = (
    "the heron",
    "an old fisherman",
    "my neighbour",
    "the keeper",
    "a small boat",
    "the ranger",
    "our guide",
)
_DOES = (
    "waits by",
    "walks along",
    "looks over",
    "listens near",
    "rests behind",
    "comes back from",
    "stands at",
)
_WHERE = (
    "the river",
    "the wooden bridge",
    "the quiet harbour",
    "a field of barley",
    "the northern cliff",
    "the old mill",
)
_WHEN = ("in the morning", "after the rain", "before dawn", "at noon", "all winter", "when the tide turns")


@dataclass(frozen=True)
class SpeechSource:
    """Sentences by thirty voices, spoken once and kept as sound files in a folder."""

    folder: Path
    seed: int

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `sources.ArchiveSource`. Raises CorpusError if espeak-ng cannot be run."""
        for number, (variant, sex, split) in enumerate(_SPEAKERS):
            rng = np.random.default_rng([self.seed, 0xE5, number])
            accent = _ACCENTS[number % len(_ACCENTS)]
            speed = int(rng.integers(130, 180))
            for sentence in range(_SENTENCES):
                parts = (str(rng.choice(words)) for words in (_WHO, _DOES, _WHERE, _WHEN))
                text = " ".join(parts).capitalize() + "."
                path = self.folder / f"{variant}-{self.seed}-{sentence}.wav"
                if not path.is_file():
                    _speak(text, f"{accent}+{variant}", speed, path)
                yield Recording(
                    id=path.stem,
                    source=NAME,
                    sound=FileSound(path),
                    file_name=path.name,
                    license="CC0-1.0",
                    kind="speech",
                    sex=sex,
                    count=1,
                    transcript=text,
                    recordist=variant,
                    group=variant,
                    split=split,
                )


def _speak(text: str, voice: str, words_a_minute: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "-w", str(temporary), text]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode or not temporary.is_file():
        raise CorpusError(
            f"espeak-ng failed ({done.stderr.strip()}); try by hand: {' '.join(command[:-1])} 'a sentence'"
        )
    temporary.replace(path)
