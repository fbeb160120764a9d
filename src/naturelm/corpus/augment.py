"""Changes to a sound that leave its label true: speed, time, filters, reverberation, gain, noise.

Built on audiomentations, which is numpy and scipy and needs no torchaudio. Every strength is drawn here
from the pair's own generator and handed over as a fixed value, so that a pair depends on nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import scipy.signal
import soxr

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.activity import Activity
from naturelm.corpus.limits import require, require_range, require_share
from naturelm.corpus.recordings import FloatArray

Change = Literal["speed", "stretch", "low-pass", "high-pass", "peak", "reverberation"]
"""`speed` moves pitch and tempo together, `stretch` tempo alone; the others colour the sound."""

COLOURING: frozenset[Change] = frozenset({"low-pass", "high-pass", "peak", "reverberation"})
ALL_CHANGES: frozenset[Change] = COLOURING | {"speed", "stretch"}
_LOST_DB = 6.0
_HIGHEST_HZ = 7900.0


@dataclass(frozen=True)
class AugmentOptions:
    """How often sounds are changed, and how strongly."""

    probability: float = 0.5
    """Of a sound's being changed at all; of a changed one, each kind that its label stands has 1 in 3."""
    speed: tuple[float, float] = (0.9, 1.1)
    stretch: tuple[float, float] = (0.85, 1.2)
    low_pass_hz: tuple[float, float] = (2500.0, 7000.0)
    high_pass_hz: tuple[float, float] = (60.0, 600.0)
    peak_db: tuple[float, float] = (-9.0, 9.0)
    decay_s: tuple[float, float] = (0.1, 0.6)
    """Reverberation: time in which the echo falls by 60 dB."""
    noise_probability: float = 0.6
    snr_db: tuple[float, float] = (-10.0, 25.0)
    """Of the sound's active parts over the noise."""
    level_db: tuple[float, float] = (-15.0, -1.0)
    """Peak of the finished clip, re full scale."""

    def __post_init__(self) -> None:
        """Raises OptionError for a value that makes no sense."""
        require_share("probability", self.probability)
        require_share("noise_probability", self.noise_probability)
        require_range("speed", self.speed, 0.5, 2.0)
        require_range("stretch", self.stretch, 0.5, 2.0)
        require_range("low_pass_hz", self.low_pass_hz, 20.0, _HIGHEST_HZ)
        require_range("high_pass_hz", self.high_pass_hz, 20.0, _HIGHEST_HZ)
        require_range("peak_db", self.peak_db, -40.0, 40.0)
        require_range("decay_s", self.decay_s, 0.01, 10.0)
        require_range("snr_db", self.snr_db, -100.0, 100.0)
        require_range("level_db", self.level_db, -60.0, 0.0)
        require(self.level_db[1] < 0, "level_db", "must be below 0, or clips would be at full scale")


def change(
    sound: FloatArray, allowed: frozenset[Change], options: AugmentOptions, rng: np.random.Generator
) -> tuple[FloatArray, tuple[str, ...]]:
    """Change a sound, (samples,) float32 at 16 kHz, in some of the allowed ways; says which and how much.

    A filter after which the call is more than 6 dB softer than at first is left out: the label would
    have nothing left to stand for.
    """
    if not allowed or rng.random() >= options.probability:
        return sound, ()
    made: list[str] = []
    original, heard = sound, Activity.of(sound)
    # Filters come before changes of tempo: until then the call is where it was.
    for kind in sorted(allowed, key=lambda kind: (kind not in COLOURING, kind)):
        if rng.random() < 1 / 3:
            effect, described = _effect(kind, options, rng)
            changed = effect(sound).astype(np.float32)
            if kind in COLOURING and _call_db(changed, heard) < _call_db(original, heard) - _LOST_DB:
                continue
            sound = changed
            made.append(f"{kind} {described}")
    return sound, tuple(made)


def _effect(
    kind: Change, options: AugmentOptions, rng: np.random.Generator
) -> tuple[Callable[[FloatArray], FloatArray], str]:
    import audiomentations as am  # half a second to import: only when sound is made

    def within(limits: tuple[float, float]) -> float:
        return float(np.exp(rng.uniform(*np.log(limits))))

    if kind == "speed":
        factor = within(options.speed)
        return partial(_faster, factor=factor), f"{factor:.3f}"
    if kind == "stretch":
        factor = within(options.stretch)
        stretch = am.TimeStretch(factor, factor, leave_length_unchanged=False, p=1.0)
        return partial(stretch, sample_rate=SAMPLE_RATE), f"{factor:.3f}"
    if kind == "reverberation":
        decay = within(options.decay_s)
        return partial(_echo, decay=decay, response_seed=int(rng.integers(2**31))), f"{decay:.2f} s"
    if kind == "peak":
        centre, gain = within((150.0, 6000.0)), float(rng.uniform(*options.peak_db))
        peak = am.PeakingFilter(centre, centre, gain, gain, 1.0, 1.0, p=1.0)
        return partial(peak, sample_rate=SAMPLE_RATE), f"{gain:+.1f} dB at {centre:.0f} Hz"
    cutoff = within(options.low_pass_hz if kind == "low-pass" else options.high_pass_hz)
    kinds = am.LowPassFilter if kind == "low-pass" else am.HighPassFilter
    passing = kinds(cutoff, cutoff, 12, 12, p=1.0)
    return partial(passing, sample_rate=SAMPLE_RATE), f"{cutoff:.0f} Hz"


def _faster(sound: FloatArray, *, factor: float) -> FloatArray:
    changed: FloatArray = soxr.resample(sound, SAMPLE_RATE, SAMPLE_RATE / factor, quality="HQ")
    return changed


def _echo(sound: FloatArray, *, decay: float, response_seed: int) -> FloatArray:
    """Direct sound, and a tail of noise that falls by 60 dB in `decay` seconds, 6 to 12 dB below it."""
    rng = np.random.default_rng(response_seed)
    samples = round(decay * SAMPLE_RATE)
    tail = rng.standard_normal(samples) * 10 ** (-3 * np.arange(samples) / samples)
    tail *= 10 ** (-rng.uniform(6, 12) / 20) / np.linalg.norm(tail)
    tail[0] = 1.0
    echoed: FloatArray = scipy.signal.fftconvolve(sound, tail)[: len(sound) + samples // 2]
    return echoed


def _call_db(sound: FloatArray, heard: Activity) -> float:
    """Level of a sound where, before it was changed, the call was heard: dB re full scale."""
    levels = Activity.of(sound).levels[: len(heard.levels)][heard.calling]
    return float(10 * np.log10(np.mean(10 ** (levels.astype(np.float64) / 10)))) if len(levels) else -100.0


def active_level_db(sound: FloatArray) -> float:
    """Root mean square of the active steps of a sound, dB re full scale; -100 for silence."""
    activity = Activity.of(sound)
    if not activity.active.any():
        return -100.0
    powers = 10 ** (activity.levels[activity.active].astype(np.float64) / 10)
    return float(10 * np.log10(powers.mean()))


def gained(sound: FloatArray, decibels: float) -> FloatArray:
    """A sound made louder (or softer) by so many dB."""
    return (sound * 10 ** (decibels / 20)).astype(np.float32)


def faded(sound: FloatArray, seconds: float = 0.01) -> FloatArray:
    """A cut sound without a click at either end."""
    samples = min(round(seconds * SAMPLE_RATE), len(sound) // 2)
    if samples == 0:
        return sound
    ramp = np.linspace(0, 1, samples, dtype=np.float32)
    shaped = sound.copy()
    shaped[:samples] *= ramp
    shaped[-samples:] *= ramp[::-1]
    return shaped
