"""What a scan needs of an engine, whichever it is; and what one says of a window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

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
    alike: whether the score of a window is the same to its last digit, whatever windows share its batch.
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

    def prepare(self, windows: Sequence[FloatArray]) -> Any:
        """What can be made of windows ahead of the model, such as their filter bank, in whatever form `listen` takes.

        windows: (samples,) float32 at `sample_rate`, of unlike lengths where one is a recording's end, none all
        zeros. Called in another thread, while `listen` is at work on earlier ones. Raises OutOfMemory.
        """
        ...

    def listen(self, prepared: Any) -> list[tuple[Said, ...]]:
        """What there is to say of each window of those that were prepared together.

        Raises OutOfMemory, and NatureLMError where nothing can be heard at all.
        """
        ...


@dataclass(frozen=True)
class Prepared:
    """Windows that are heard together. made: by `Listener.prepare`, None where there was no room to do it ahead."""

    windows: Sequence[FloatArray]
    made: Any


class Listening:
    """A listener whose batches shrink until they fit. The size that fitted stays."""

    def __init__(self, listener: Listener, batch_size: int) -> None:
        self.listener = listener
        self.batch_size = batch_size

    def prepare(self, windows: Sequence[FloatArray]) -> list[Prepared]:
        """The windows in parts of the size that fits, made ready; in any thread."""
        return [self._prepared(part) for part in self._parts(windows)]

    def listen(self, parts: Sequence[Prepared]) -> list[tuple[Said, ...]]:
        """What is said of each window, in order; OutOfMemory only where one window alone does not fit."""
        return [said for part in parts for said in self._listen(part)]

    def _prepared(self, windows: Sequence[FloatArray]) -> Prepared:
        try:
            return Prepared(windows, self.listener.prepare(windows))
        except OutOfMemory:
            return Prepared(windows, None)

    def _listen(self, part: Prepared) -> list[tuple[Said, ...]]:
        windows = part.windows
        if len(windows) <= self.batch_size:
            try:
                made = self.listener.prepare(windows) if part.made is None else part.made
                return self.listener.listen(made)
            except OutOfMemory:
                if len(windows) == 1:
                    raise
                self.batch_size = max(1, len(windows) // 2)
        return self.listen([Prepared(smaller, None) for smaller in self._parts(windows)])

    def _parts(self, windows: Sequence[FloatArray]) -> list[Sequence[FloatArray]]:
        size = self.batch_size
        return [windows[first : first + size] for first in range(0, len(windows), size)]
