"""What a scan needs of an engine, whichever it is; and what one says of a window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from naturelm.audio.sources import FloatArray
from naturelm.scan.options import Label


class Kind(StrEnum):
    """What a row of the scores is."""

    LABEL = "label"
    """The score of one label that was looked for."""
    ANSWER = "answer"
    """A written answer, and its probability."""
    GATED = "gated"
    """A window below the gate's level, which was not listened to."""
    SILENT = "silent"
    """A window of zeros, which was not listened to."""


@dataclass(frozen=True)
class Said:
    """One row of what an engine says of a window. question: "" for labels. score: from 0 to 1."""

    kind: Kind
    question: str
    label: str
    score: float


class OutOfMemory(Exception):
    """An engine had no room for so many windows at once."""


class Listener(Protocol):
    """An engine, ready to listen.

    name: of the model. identity: all that its scores depend on but the sound, as plain values for JSON.
    sample_rate: Hz that it hears. default_window, longest_window: s. batch_size: windows at once that suit it.
    alike: whether the score of a window may differ in its last digits with the windows that share its batch.
    labels: what it scores, with their names; empty where it only writes answers.
    """

    name: str
    sample_rate: int
    default_window: float
    longest_window: float
    batch_size: int
    alike: bool
    labels: tuple[Label, ...]

    @property
    def identity(self) -> Mapping[str, object]: ...

    def listen(self, windows: Sequence[FloatArray]) -> list[tuple[Said, ...]]:
        """What there is to say of each window.

        windows: (samples,) float32 at `sample_rate`, of unlike lengths where one is a recording's end, none all
        zeros. Raises OutOfMemory, and NatureLMError where nothing can be heard at all.
        """
        ...


class Listening:
    """A listener whose batches shrink until they fit. The size that fitted stays."""

    def __init__(self, listener: Listener, batch_size: int) -> None:
        self.listener = listener
        self.batch_size = batch_size

    def listen(self, windows: Sequence[FloatArray]) -> list[tuple[Said, ...]]:
        """As `Listener.listen`; OutOfMemory only where one window alone does not fit."""
        said: list[tuple[Said, ...]] = []
        while len(said) < len(windows):
            part = windows[len(said) : len(said) + self.batch_size]
            try:
                said += self.listener.listen(part)
            except OutOfMemory:
                if len(part) == 1:
                    raise
                self.batch_size = max(1, len(part) // 2)
        return said
