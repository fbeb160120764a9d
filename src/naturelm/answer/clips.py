"""Recordings to clips that the model can take, with every fault said in one line."""

import io
import os
from collections.abc import Iterator

import numpy as np

from naturelm.answer.results import Clip
from naturelm.audio import AudioSource, WindowSpec, audio_info, iter_windows, read_audio
from naturelm.errors import AudioError

MIN_SECONDS = 0.01


def read_clip(
    source: AudioSource,
    *,
    sample_rate: int,
    max_seconds: float,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
    source_rate: int | None = None,
) -> Clip:
    """A recording, or the stretch from `start` to `end` (s), as one clip; an end beyond it is its end.

    Raises AudioError when it cannot be read, is shorter than 10 ms, longer than `max_seconds`
    or nothing but zeros.
    """
    if not isinstance(source, str | bytes | os.PathLike | np.ndarray) and not source.seekable():
        source = io.BytesIO(source.read())  # reading the header would use it up
    info = audio_info(
        source, source_rate=source_rate or (sample_rate if isinstance(source, np.ndarray) else None)
    )
    end = _end_within(end, info.duration)
    stop = info.duration if end is None else end
    if stop - start > max_seconds:
        raise AudioError(
            f"{info.name}: {stop - start:.0f} s as one window; the model takes at most {max_seconds:g} s, "
            "so ask window by window (--window 10) or about a stretch (--start, --end)"
        )
    samples = read_audio(
        source, sample_rate=sample_rate, channel=channel, start=start, end=end, source_rate=source_rate
    )
    return checked_clip(samples, info.name, start, sample_rate)


def checked_clip(samples: np.ndarray, name: str, start: float, sample_rate: int) -> Clip:
    """Sound as a clip that begins `start` s into the recording `name`.

    Raises AudioError when it is shorter than 10 ms or nothing but zeros.
    """
    clip = Clip(samples, name, start, start + len(samples) / sample_rate)
    if len(samples) < MIN_SECONDS * sample_rate:
        raise AudioError(_too_short(name, len(samples) / sample_rate))
    check_clip(clip)
    return clip


def iter_clips(
    source: AudioSource,
    spec: WindowSpec,
    *,
    sample_rate: int,
    max_seconds: float,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> Iterator[Clip]:
    """The windows of a recording, or of the stretch, as clips, in bounded memory.

    The last one is as long as its sound; an end beyond the recording is its end.

    Raises AudioError when the recording cannot be read; a silent window is left to `check_clip`.
    """
    info = audio_info(source)
    name, end = info.name, _end_within(end, info.duration)
    if spec.length > max_seconds:
        raise AudioError(
            f"{name}: windows of {spec.length:g} s; the model takes at most {max_seconds:g} s; ask for shorter ones"
        )
    for window in iter_windows(source, spec, sample_rate=sample_rate, channel=channel, start=start, end=end):
        samples = window.samples[: window.num_samples]
        if window.index == 0 and len(samples) < MIN_SECONDS * sample_rate:
            raise AudioError(_too_short(name, len(samples) / sample_rate))
        yield Clip(samples, name, window.start, window.end)


def check_clip(clip: Clip) -> None:
    """Raise AudioError for a clip of nothing but zeros."""
    if not np.any(clip.samples):
        raise AudioError(
            f"{clip.recording}: all samples are zero from {clip.start:.2f} to {clip.end:.2f} s; "
            "check the recorder's gain and cable, or choose another channel"
        )


def _end_within(end: float | None, duration: float) -> float | None:
    """None, which is the recording's end, for an end beyond it: recordings asked together differ in length."""
    return None if end is not None and end > duration else end


def _too_short(name: str, seconds: float) -> str:
    return f"{name}: {1000 * seconds:.1f} ms of sound; at least 10 ms are needed"
