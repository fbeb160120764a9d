"""Sound out of files, bytes and arrays: one channel, float32, at one sample rate.

`read_audio` and `iter_blocks` are the same single pass over the same internal
blocks, so their samples are equal bit for bit. Resampling is soxr's HQ setting,
streamed; where the rates are equal no filter touches the samples. n frames at rate
r become floor(n * sample_rate / r + 0.5) samples.
"""

import contextlib
import math
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from naturelm.audio.sources import MAX_RATE, MIN_RATE, AudioSource, FloatArray, Recording, open_recording
from naturelm.errors import AudioError

SAMPLE_RATE = 16_000
_READ_FRAMES = 8_192


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says."""

    name: (
        str  # as the caller gave it, on one line; '<bytes>', '<array>' or '<file object>' where there is none
    )
    sample_rate: int  # Hz
    channels: int
    frames: int  # samples of each channel
    format: str  # container, in libsndfile's words: 'WAV', 'FLAC', 'OGG', ...; 'ARRAY'
    subtype: str  # coding of the samples: 'PCM_16', 'VORBIS', ...; an array's dtype

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def audio_info(source: AudioSource, *, source_rate: int | None = None) -> AudioInfo:
    """Describe a recording from its header, without reading its sound.

    A header without a length (FLAC written to a pipe, some MP3) is the exception: such
    a recording is decoded once, to count. source_rate: Hz, for arrays only, 16 kHz if
    not given. Raises AudioError as `read_audio` does for anything that cannot be opened.
    """
    array_rate = _array_rate(source, source_rate, SAMPLE_RATE)
    with open_recording(source, array_rate) as recording:
        frames = recording.frames
        return AudioInfo(
            name=recording.name,
            sample_rate=recording.sample_rate,
            channels=recording.channels,
            frames=_count_frames(recording) if frames is None else frames,
            format=recording.format,
            subtype=recording.subtype,
        )


def read_audio(
    source: AudioSource,
    *,
    sample_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    source_rate: int | None = None,
) -> FloatArray:
    """Read a recording, or the part from start to end, as (samples,) float32 in [-1, 1].

    source: a path, the bytes of a file, a binary file object (read from its
        beginning and left open; one that cannot seek is first read into memory), or
        an array, (samples,) or (channels, samples), of floats or of integers of 8, 16
        or 32 bits, which are scaled by their full range (unsigned ones about their middle).
    sample_rate: Hz of the result, 4 to 384 kHz.
    channel: which one, counted from 0; None is the mean of all.
    start, end: s, each taken to the nearest frame of the recording; None is its end.
    source_rate: Hz, for arrays only; `sample_rate` if not given.

    Sound beyond [-1, 1] is clipped, after resampling. Raises AudioError if the
    recording is missing, not sound, empty, truncated or damaged in the part that is
    read, holds NaN or infinite samples there, or lacks the channel or the part asked for.
    """
    with open_samples(
        source, sample_rate=sample_rate, channel=channel, start=start, end=end, source_rate=source_rate
    ) as stream:
        return np.concatenate(list(stream.pieces()))


def iter_blocks(
    source: AudioSource,
    *,
    sample_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    source_rate: int | None = None,
    block_seconds: float = 30.0,
) -> Iterator[FloatArray]:
    """Read a recording of any length in bounded memory.

    Yields float32 blocks of round(block_seconds * sample_rate) samples, at least one;
    the last may be shorter. Joined they are what `read_audio` returns, bit for bit.
    Raises as `read_audio` does, from the first step on; blocks before a damaged place
    are yielded first. ValueError if block_seconds is not positive and finite.
    """
    with open_samples(
        source, sample_rate=sample_rate, channel=channel, start=start, end=end, source_rate=source_rate
    ) as stream:
        yield from stream.blocks(block_seconds)


class SampleStream:
    """One pass over a range of a recording; `pieces` or `blocks` may be used, once.

    start: s, where the range begins in the recording. end: s, where it ends by the
    header, and by what was read once the pass is over; inf while neither is known.
    """

    def __init__(
        self, recording: Recording, sample_rate: int, channel: int | None, frames: tuple[int, int | None]
    ) -> None:
        self._recording = recording
        self._sample_rate = sample_rate
        self._channel = channel
        self._first, self._last = frames
        self._finished_samples: int | None = None
        last = recording.frames if self._last is None else self._last
        self.start: float = self._first / recording.sample_rate
        self.end: float = math.inf if last is None else last / recording.sample_rate

    def time_at(self, sample: int) -> float:
        """Seconds into the recording of the end of the range's first `sample` samples."""
        if self._finished_samples is not None and sample >= self._finished_samples:
            return self.end
        return min(self.start + sample / self._sample_rate, self.end)

    def pieces(self) -> Iterator[FloatArray]:
        """Yield (n,) float32 at the stream's rate, as they come; n varies."""
        samples = 0
        mono = self._mono_blocks()
        for piece in _resampled(mono, self._recording.sample_rate, self._sample_rate):
            samples += len(piece)
            yield np.clip(piece, -1.0, 1.0)
        if samples == 0:
            raise AudioError(
                f"{self._recording.name}: too short, not one sample at {self._sample_rate} Hz;"
                " choose a longer part or recording"
            )
        self._finished_samples = samples

    def blocks(self, seconds: float) -> Iterator[FloatArray]:
        """Yield (round(seconds * sample_rate),) float32, the last one shorter."""
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"block_seconds must be positive and finite, not {seconds!r}")
        size = max(1, round(seconds * self._sample_rate))
        waiting: list[FloatArray] = []
        count = 0
        for piece in self.pieces():
            waiting.append(piece)
            count += len(piece)
            if count < size:
                continue
            joined = np.concatenate(waiting)
            whole = count - count % size
            for first in range(0, whole, size):
                yield joined[first : first + size]
            waiting = [joined[whole:].copy()]
            count -= whole
        if count:
            yield np.concatenate(waiting)

    def _mono_blocks(self) -> Iterator[FloatArray]:
        recording, last = self._recording, self._last
        recording.skip_to(self._first)
        position = self._first
        while last is None or position < last:
            wanted = _READ_FRAMES if last is None else min(_READ_FRAMES, last - position)
            block = recording.read(wanted)
            if len(block) == 0:
                break
            mono = _one_channel(block, self._channel)
            _check_finite(recording, mono, position)
            position += len(block)
            yield mono
        if last is None or position < last:
            recording.check_end()
        if last is not None and position < last and recording.frames is None:
            raise AudioError(_past_end(recording, "end", last, position))
        self.end = position / recording.sample_rate


@contextlib.contextmanager
def open_samples(
    source: AudioSource,
    *,
    sample_rate: int,
    channel: int | None,
    start: float,
    end: float | None,
    source_rate: int | None,
) -> Iterator[SampleStream]:
    """Open a range of a recording for one pass; arguments and errors as in `read_audio`."""
    array_rate = _array_rate(source, source_rate, sample_rate)
    with open_recording(source, array_rate) as recording:
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise AudioError(
                f"{recording.name}: cannot be read at {sample_rate} Hz;"
                f" choose a sample_rate of {MIN_RATE} to {MAX_RATE} Hz"
            )
        yield SampleStream(
            recording,
            sample_rate,
            _checked_channel(recording, channel),
            _frame_range(recording, start, end),
        )


def _array_rate(source: AudioSource, source_rate: int | None, default: int) -> int:
    if source_rate is None:
        return default
    if not isinstance(source, np.ndarray):
        raise AudioError(
            f"source_rate={source_rate}: is for arrays only, files and bytes state their own; leave it out"
        )
    if not math.isfinite(source_rate) or source_rate != int(source_rate):
        raise AudioError(f"<array>: source_rate must be a whole number of Hz, not {source_rate!r}")
    return int(source_rate)


def _count_frames(recording: Recording) -> int:
    frames = 0
    while block_frames := len(recording.read(_READ_FRAMES)):
        frames += block_frames
    recording.check_end()
    return frames


def _checked_channel(recording: Recording, channel: int | None) -> int | None:
    if channel is None:
        return None
    try:
        index = operator.index(channel)
    except TypeError as error:
        raise AudioError(
            f"{recording.name}: channel must be a whole number or None, not {channel!r}"
        ) from error
    if not 0 <= index < recording.channels:
        choice = "0" if recording.channels == 1 else f"0 to {recording.channels - 1}"
        raise AudioError(
            f"{recording.name}: has no channel {index}; choose {choice}, or none for the mean of all"
        )
    return index


def _frame_range(recording: Recording, start: float, end: float | None) -> tuple[int, int | None]:
    name, rate, frames = recording.name, recording.sample_rate, recording.frames
    for what, time in (("start", start), ("end", end)):
        if time is not None and not (math.isfinite(time) and time >= 0):
            raise AudioError(f"{name}: {what} must be a time in seconds from 0 on, not {time!r}")
    first = round(start * rate)
    last = None if end is None else round(end * rate)
    if last is not None and last <= first:
        raise AudioError(f"{name}: end ({end:g} s) must lie after start ({start:g} s)")
    if frames is not None and first >= frames:
        raise AudioError(_past_end(recording, "start", first, frames))
    if frames is not None and last is not None and last > frames:
        raise AudioError(_past_end(recording, "end", last, frames))
    return first, last


def _past_end(recording: Recording, what: str, frame: int, frames: int) -> str:
    rate = recording.sample_rate
    cure = "choose an earlier start" if what == "start" else "choose an earlier end, or none"
    return (
        f"{recording.name}: {what} is {frame / rate:g} s, but the recording lasts {frames / rate:g} s; {cure}"
    )


def _one_channel(block: FloatArray, channel: int | None) -> FloatArray:
    if channel is not None:
        return np.ascontiguousarray(block[:, channel])
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # the caller looks for what is not finite
        mean: FloatArray = block.mean(axis=1, dtype=np.float32)
    return mean


def _check_finite(recording: Recording, mono: FloatArray, position: int) -> None:
    finite = np.isfinite(mono)
    if finite.all():
        return
    frame = position + int(np.argmin(finite))
    raise AudioError(
        f"{recording.name}: holds a NaN or infinite sample at {frame / recording.sample_rate:.4f} s;"
        " write the file again, or cut that part out"
    )


def _resampled(blocks: Iterable[FloatArray], source_rate: int, sample_rate: int) -> Iterator[FloatArray]:
    if source_rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        piece = stream.resample_chunk(np.ascontiguousarray(block))
        if len(piece):
            yield piece
    tail = stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    if len(tail):
        yield tail
