"""The one schema that every archive is brought to: recordings, the sounds behind them, and failures.

An archive's own words are kept as it writes them (names of species, stages, call types); resolving
them against a taxonomy and turning them into labels happens later, in one place for all archives.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from naturelm.audio import SAMPLE_RATE, read_audio

FloatArray = npt.NDArray[np.float32]

Kind = Literal["animal", "environment", "speech", "music", "noise"]
"""What a recording is of. `noise` is background without a focal sound: wind, surf, an empty forest."""


class Sound(Protocol):
    """Where the samples of a recording come from; small and picklable, opened only when read."""

    def read(self, start: float = 0.0, end: float | None = None) -> FloatArray:
        """Samples from start to end (seconds into this sound), (samples,) float32 mono at 16 kHz.

        Raises AudioError, naming the file and the cure, when it cannot be read.
        """
        ...


@dataclass(frozen=True)
class FileSound:
    """A sound file, or the part of it from `start` to `end` seconds."""

    path: Path
    start: float = 0.0
    end: float | None = None

    def read(self, start: float = 0.0, end: float | None = None) -> FloatArray:
        """See `Sound.read`."""
        stop = self.end if end is None else self.start + end
        if stop is not None and self.end is not None:
            stop = min(stop, self.end)
        return read_audio(self.path, start=self.start + start, end=stop, sample_rate=SAMPLE_RATE)


@dataclass(frozen=True)
class Event:
    """A stretch of a recording in which something named is heard."""

    start: float
    """Seconds into the recording's sound."""
    end: float
    label: str
    """A taxon's name or a sound's, as the archive writes it."""


@dataclass(frozen=True)
class Recording:
    """One sound of an archive, and what the archive says of it. Unstated facts are empty or None."""

    id: str
    """Unique within its source."""
    source: str
    """The source's name, such as `xeno-canto`."""
    sound: Sound
    file_name: str
    """Path within the archive, with forward slashes: what a failure or a provenance column names."""
    license: str
    """As the archive gives it: a short name or an address. `unknown` where it gives none."""
    kind: Kind = "animal"
    species: tuple[str, ...] = ()
    """Focal taxa by name, as the archive writes them (scientific, where it gives both)."""
    common_names: tuple[str, ...] = ()
    """The archive's own common name for each of `species`; empty where it gives none."""
    background: tuple[str, ...] = ()
    """Other taxa that the archive says can be heard."""
    labels: tuple[str, ...] = ()
    """Sounds that are not taxa: `siren`, `rain`, `church bells`."""
    caption: str = ""
    life_stage: str = ""
    """`adult`, `juvenile`, `nestling`, ... in the archive's words."""
    sex: str = ""
    """Of the animal, or of the speaker: `male`, `female`."""
    call_types: tuple[str, ...] = ()
    """`song`, `alarm call`, ... in the archive's words."""
    count: int | None = None
    """Individuals, or speakers, that are heard."""
    instrument: str = ""
    """Music: the instrument's family."""
    pitch: int | None = None
    """Music: MIDI note number."""
    transcript: str = ""
    """Speech: what is said."""
    events: tuple[Event, ...] = ()
    duration: float | None = None
    """Seconds, where the metadata gives it; otherwise read from the header when the corpus is built."""
    recordist: str = ""
    """Who recorded it; for speech, the speaker."""
    group: str = ""
    """What may never be split over train and test: the original recording that clips were cut from.
    Empty: the recording stands alone."""
    region: str = ""
    """Country or area."""
    date: str = ""
    """ISO 8601, as far as it is known."""
    url: str = ""
    split: str = ""
    """The archive's own split (`train`, `validation`, `test`), where it has one."""
    instruction: str = ""
    answer: str = ""
    """An archive's own question and answer about the recording, passed through as they are."""


@dataclass(frozen=True)
class Failure:
    """Something that could not be used: a row of the failures table."""

    source: str
    file_name: str
    """The file, or the metadata file and row, that the cause is about."""
    cause: str
    """One line that says what is wrong and how to mend it."""
