"""Recordings of any length cut into windows of one length, in bounded memory."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from naturelm.audio.decode import SAMPLE_RATE, SampleStream, open_samples
from naturelm.audio.sources import AudioSource, FloatArray


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a recording.

    Times count from the beginning of the recording, samples from the beginning of
    the part that was asked for: samples[:num_samples] is
    read_audio(...)[start_sample : start_sample + num_samples].
    """

    index: int  # 0, 1, 2, ... in the order of time
    start: float  # s
    end: float  # s, where the sound in the window ends, not its padding
    start_sample: int
    samples: FloatArray  # (window_samples,) float32, zeros after the sound
    num_samples: int  # samples of sound, before the padding


@dataclass(frozen=True)
class WindowSpec:
    """How to cut: windows of `length` seconds, one every `hop` seconds (None: end to end).

    A hop shorter than the length gives windows that overlap; a longer one leaves
    gaps that no window covers. Raises ValueError unless both are positive and finite.
    """

    length: float
    hop: float | None = None

    def __post_init__(self) -> None:
        for what, seconds in (("length", self.length), ("hop", self.hop)):
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"window {what} must be positive and finite, not {seconds!r} s")

    def window_samples(self, sample_rate: int) -> int:
        """Samples of one window: length * sample_rate, rounded up.

        Up, because starts are rounded: rounded down, windows end to end would miss a
        sample here and there where their length is no whole number of samples.
        """
        return max(1, math.ceil(self.length * sample_rate - 1e-6))

    def start_of(self, index: int, sample_rate: int) -> int:
        """First sample of window `index`, from the index alone, so that nothing drifts.

        ValueError if the hop is shorter than one sample.
        """
        hop = self.length if self.hop is None else self.hop
        if hop * sample_rate < 1:
            raise ValueError(f"a hop of {hop!r} s is shorter than one sample at {sample_rate} Hz")
        return round(index * hop * sample_rate)

    def starts(self, total_samples: int, sample_rate: int) -> list[int]:
        """First samples of the windows over `total_samples` samples (int, none if 0).

        The last window may be partly sound. Once a window has reached the end, none
        follows: it could only repeat sound that was seen.
        """
        starts: list[int] = []
        size = self.window_samples(sample_rate)
        first = covered = 0
        while first < total_samples and covered < total_samples:
            starts.append(first)
            covered = first + size
            first = self.start_of(len(starts), sample_rate)
        return starts


def iter_windows(
    source: AudioSource,
    spec: WindowSpec | None = None,
    *,
    sample_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    source_rate: int | None = None,
    block_seconds: float = 30.0,
) -> Iterator[Window]:
    """Yield the windows of a recording, or of its part from start to end, in order.

    spec: None is one window of all the sound, without padding (and so not bounded in
    memory). Otherwise about block_seconds and one window of sound are held at a time.
    The other arguments, and the errors, are `read_audio`'s; they are raised from the
    first step on, and windows that end before a damaged place are yielded first.
    """
    with open_samples(
        source, sample_rate=sample_rate, channel=channel, start=start, end=end, source_rate=source_rate
    ) as stream:
        if spec is None:
            samples = np.concatenate(list(stream.pieces()))
            yield Window(0, stream.start, stream.end, 0, samples, len(samples))
        else:
            yield from _cut(stream, spec, sample_rate, block_seconds)


def _cut(stream: SampleStream, spec: WindowSpec, sample_rate: int, block_seconds: float) -> Iterator[Window]:
    size = spec.window_samples(sample_rate)
    blocks = stream.blocks(block_seconds)
    held: FloatArray = np.zeros(0, dtype=np.float32)
    held_from = 0  # which sample of the range held[0] is
    covered = 0  # where the last window ended
    for index in itertools.count():
        first = spec.start_of(index, sample_rate)
        held, held_from = _advance(blocks, held, held_from, first, first + size)
        total = held_from + len(held)
        if first >= total or covered >= total:
            return
        sound = held[first - held_from : first - held_from + size]
        samples = np.zeros(size, dtype=np.float32)
        samples[: len(sound)] = sound
        covered = first + len(sound)
        yield Window(
            index=index,
            start=stream.time_at(first),
            end=stream.time_at(covered),
            start_sample=first,
            samples=samples,
            num_samples=len(sound),
        )


def _advance(
    blocks: Iterator[FloatArray], held: FloatArray, held_from: int, first: int, stop: int
) -> tuple[FloatArray, int]:
    """Drop samples before `first` and take blocks until `stop` is held, or the sound ends."""
    while True:
        dropped = min(len(held), first - held_from)
        held, held_from = held[dropped:], held_from + dropped
        if held_from + len(held) >= stop:
            return held, held_from
        block = next(blocks, None)
        if block is None:
            return held, held_from
        held = np.concatenate([held, block])
