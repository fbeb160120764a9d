"""What a benchmarked system is: questions about clips in, one answer to each out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from naturelm.corpus.recordings import FloatArray


@dataclass(frozen=True)
class BenchItem:
    """One question about one clip."""

    id: str
    """Its own in its suite."""
    dataset_name: str
    task: str
    """As BEANS-Zero names it: `classification`, `detection` or `captioning`."""
    prompt: str
    """The question, in the words that the system is to be asked in."""
    waveform: FloatArray = field(repr=False)
    """(samples,) float32 mono in [-1, 1]."""
    sample_rate: int
    """Hz of `waveform`."""
    labels: tuple[str, ...] = ()
    """The closed set of the data set; empty where there is none."""


@dataclass(frozen=True)
class BenchAnswer:
    """What a system answers to one question."""

    prediction: str
    """As text; several labels are joined by `, `."""
    scores: Mapping[str, float] | None = None
    """Of labels of the closed set, higher is likelier; probabilities in [0, 1] where the system has them. None
    where it gives no scores."""


@dataclass(frozen=True)
class ModelInfo:
    """What has to be known of a system to run it again."""

    name: str
    revision: str = ""
    """Version, commit or hash of its weights."""
    license: str = ""
    note: str = ""
    """What a reader of its scores has to know, such as a limit of its label mapping."""


class BenchModel(Protocol):
    """A system under test. It may raise NatureLMError; the runner then asks row by row and records what fails."""

    @property
    def info(self) -> ModelInfo:
        """What it is."""

    def answer(self, batch: Sequence[BenchItem]) -> Sequence[BenchAnswer]:
        """One answer to each item, in their order. Clips may differ in length and rate."""
