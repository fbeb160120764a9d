"""What a scan is told, as frozen records that are checked when they are made."""

import math
from dataclasses import dataclass

from naturelm.answer.results import NONE_OF_THESE, check_choices
from naturelm.audio import WindowSpec
from naturelm.errors import NatureLMError, QuestionError
from naturelm.scan.names import Preset


class ScanError(NatureLMError):
    """A scan that cannot be begun, continued, read or exported as it was asked for."""


PRESET_QUESTIONS = {
    Preset.SPECIES: "What are the common names for the species in the audio, if any?",
    Preset.CAPTION: "Caption the audio, using the common name for any animal species.",
    Preset.CALL_TYPE: "What call type is heard from the focal species in the audio?",
    Preset.LIFE_STAGE: "What is the life stage of the focal species in the audio?",
    Preset.COUNT: "How many individuals of the focal species are calling in the audio?",
}
"""Worded as the models were trained on them."""
DETECTION_QUESTION = "What is the common name for the focal species in the audio?"


@dataclass(frozen=True)
class Label:
    """One thing to look for.

    text: as it stands in the tables, and as a language model is asked about it. scientific, common: its names
    where they are known, "" where not.
    """

    text: str
    scientific: str = ""
    common: str = ""

    @classmethod
    def parse(cls, written: str) -> "Label":
        """A label as written: plain words, or `Scientific name_Common name` as in BirdNET's species lists."""
        scientific, underscore, common = written.strip().partition("_")
        if underscore and scientific and common:
            return cls(common.strip(), scientific.strip(), common.strip())
        return cls(written.strip(), common=written.strip())


def parse_labels(written: tuple[str, ...]) -> tuple[Label, ...]:
    """Labels as written, one each. ScanError where there are none, one is empty or given twice."""
    labels = tuple(Label.parse(each) for each in written)
    try:
        # `None of these` is added to every set, so it must not be in it.
        check_choices([label.text for label in labels], none_of_these=True)
    except QuestionError as error:
        raise ScanError(f"labels: {error}") from error
    return labels


def is_no_find(label: str) -> bool:
    """Whether a label or an answer says that there is nothing."""
    return label.strip().rstrip(".").casefold() in {"", "none", NONE_OF_THESE.casefold()}


@dataclass(frozen=True)
class CutOptions:
    """How recordings are cut into windows.

    window, hop: s; hop None: end to end. start, end: the stretch of every recording, s; an end beyond a
    recording is its end. channel: from 0, None for the mean of all. gate_db: windows whose root mean square lies
    below so many dB relative to full scale are not listened to; None listens to all but digital silence.

    Raises ScanError.
    """

    window: float
    hop: float | None = None
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    gate_db: float | None = None

    def __post_init__(self) -> None:
        try:
            WindowSpec(self.window, self.hop)
        except ValueError as error:
            raise ScanError(str(error)) from error
        if not (math.isfinite(self.start) and self.start >= 0):
            raise ScanError(f"--start: must be 0 s or later, not {self.start:g}")
        if self.end is not None and not (math.isfinite(self.end) and self.end > self.start):
            raise ScanError(f"--end: must lie after --start ({self.start:g} s), not at {self.end:g} s")
        if self.channel is not None and self.channel < 0:
            raise ScanError(f"--channel: counts from 0, so it cannot be {self.channel}")
        if self.gate_db is not None and not -200 < self.gate_db < 0:
            raise ScanError(f"--gate: dB relative to full scale, between -200 and 0, not {self.gate_db:g}")

    @property
    def spec(self) -> WindowSpec:
        """The windows' length and hop."""
        return WindowSpec(self.window, self.hop)


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts of one scan."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ScanError(f"--shard: {self.index}/{self.count} is no part; give 1/{self.count} and so on")

    @classmethod
    def parse(cls, written: str) -> "Shard":
        """`2/8`. ScanError otherwise."""
        index, slash, count = written.partition("/")
        if not (slash and index.strip().isdecimal() and count.strip().isdecimal()):
            raise ScanError(f"--shard: {written!r} is not of the form 2/8")
        return cls(int(index), int(count))
