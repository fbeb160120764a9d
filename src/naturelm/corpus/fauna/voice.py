"""Calls of the invented species, synthesised: additive tones whose traits stay apart in every voice.

Everything is drawn from PCG64 streams that are seeded with the species' index, the individual, the kind of
call and the rendition, so the same arguments give the same samples.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy import fft

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.fauna.species import Contour, FaunaSpecies, Timbre, Traits
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import NatureLMError

CallType: TypeAlias = Literal["song", "call", "alarm call", "flight call", "begging call"]
LifeStage: TypeAlias = Literal["adult", "juvenile", "nestling"]
CALL_TYPES: tuple[CallType, ...] = get_args(CallType)
LIFE_STAGES: tuple[LifeStage, ...] = get_args(LifeStage)

Doubles: TypeAlias = npt.NDArray[np.float64]

LOWEST, HIGHEST = 150.0, 7600.0
"""Hz: nothing is heard outside."""
SWEEP = 0.33
"""Octaves that a contour reaches above and below its register's centre."""
ROCK = 0.2
"""Octaves that rocking notes lie above and below it."""
MAX_SONG_SECONDS = 6.0
_MARGIN = 0.04  # s of silence around a vocalisation, into which the band filter may ring
_MAX_HARMONICS = 12
_VOICE, _RENDITION = 1, 2  # streams of random numbers, so that no two draws of different meaning coincide


class FaunaError(NatureLMError):
    """A vocalisation that no animal of the fauna gives."""


@dataclass(frozen=True)
class Voice:
    """What sets an individual apart, within the bounds that keep every trait of its species audible."""

    pitch: float
    """Factor on the register's centre, 0.94 to 1.06."""
    tempo: float
    """Factor on the rate of notes, 0.95 to 1.05."""
    duty: float
    """Share of the time from one note to the next that a note sounds."""
    sweep: float
    """Factor on the contour's width."""
    lag: float
    """Exponent of time within a note: above 1, pitch moves late."""
    attack: float
    """Seconds from silence to full strength."""
    decay: float
    """dB that a note loses from start to end."""
    crescendo: float
    """dB that a phrase gains from its first note to its last."""
    vibrato: float
    """Octaves."""
    vibrato_rate: float
    """Hz."""
    pause: float
    """Seconds between the phrases of a song."""
    formant: float
    """Hz at which the vocal tract resonates."""
    resonance: float
    """dB that it adds there."""
    slope: float
    """Harmonic k of a honk has strength k ** -slope before `colour`."""
    colour: tuple[float, ...]
    """dB on each harmonic of a honk."""
    interval: float
    """Upper tone of a chime over its lower."""
    balance: float
    """Strength of that upper tone, and share of noise in a rasp."""
    pulse_rate: float
    """Buzz, Hz."""
    trill_rate: float
    """Hz."""


@dataclass(frozen=True)
class Vocalisation:
    """A call, and when it sounds."""

    samples: FloatArray
    """(samples,) mono at 16 kHz, peak 0.5 to 0.9."""
    notes: tuple[tuple[float, float], ...]
    """Start and end of each note, seconds."""
    phrases: tuple[tuple[float, float], ...]
    """Start and end of each phrase, seconds; of each note, where a call has no phrases."""


@dataclass(frozen=True)
class _Manner:
    """How life stage and call type change the species' phrase."""

    pitch: float = 1.0
    speed: float = 1.0
    duty: float = 1.0
    quaver: float = 0.0
    """Octaves of unsteady pitch within notes."""
    straying: float = 0.004
    """Octaves by which the pitch of notes differs, standard deviation."""
    unevenness: float = 0.7
    """dB by which the strength of notes differs."""
    looseness: float = 0.012
    """Share of the note period by which onsets differ."""
    roughness: float = 0.0
    thinness: float = 0.0
    """Added to the slope of harmonics."""


@dataclass(frozen=True)
class _Score:
    """When notes start, and which of them belong together."""

    onsets: Doubles
    """(notes,) seconds."""
    turns: npt.NDArray[np.int64]
    """(notes,) the place of each note in its phrase."""
    note: float
    """Seconds that each note lasts."""
    phrase_notes: int


_ADULT = _Manner()
_JUVENILE = _Manner(
    pitch=1.1, duty=0.8, quaver=0.05, straying=0.03, unevenness=2.0, looseness=0.05, thinness=0.3
)
_NESTLING = _Manner(pitch=1.7, quaver=0.03, straying=0.03, unevenness=2.0, thinness=0.8)


def call_types(life_stage: LifeStage) -> tuple[CallType, ...]:
    """What animals of that stage utter: nestlings beg, and only they do."""
    return ("begging call",) if life_stage == "nestling" else CALL_TYPES[:4]


def identifies(call_type: CallType, life_stage: LifeStage) -> bool:
    """Whether such a call has all traits of its species, so that the species can be named from it alone."""
    return call_type in ("song", "call") and life_stage != "nestling"


def individual_voice(species: FaunaSpecies, individual: int) -> Voice:
    """The voice of one animal: the same at every age and in every rendition."""
    rng = _generator(_VOICE, species.index, individual)
    return Voice(
        pitch=rng.uniform(0.94, 1.06),
        tempo=rng.uniform(0.95, 1.05),
        duty=rng.uniform(0.58, 0.66),
        sweep=rng.uniform(0.92, 1.05),
        lag=rng.uniform(0.9, 1.12),
        attack=rng.uniform(0.008, 0.022),
        decay=rng.uniform(0.0, 5.0),
        crescendo=rng.uniform(-4.0, 4.0),
        vibrato=rng.uniform(0.0, 0.012),
        vibrato_rate=rng.uniform(4.0, 8.0),
        pause=rng.uniform(0.6, 0.74),
        formant=float(np.exp(rng.uniform(np.log(500.0), np.log(5000.0)))),
        resonance=rng.uniform(1.0, 5.0),
        slope=rng.uniform(0.4, 0.9),
        colour=tuple(rng.uniform(-3.0, 3.0, _MAX_HARMONICS).tolist()),
        interval=rng.uniform(1.38, 1.44),
        balance=rng.uniform(0.65, 0.95),
        pulse_rate=rng.uniform(80.0, 100.0),
        trill_rate=rng.uniform(26.0, 31.0),
    )


def vocalise(
    species: FaunaSpecies,
    *,
    individual: int,
    call_type: CallType = "call",
    life_stage: LifeStage = "adult",
    seed: int = 0,
) -> Vocalisation:
    """One rendition, `seed`, of one animal, `individual`: both any whole numbers from 0.

    A song lasts 6 s at most, a call 3.5 s, an alarm call 6 s, the others 3 s. FaunaError for a call type
    that the life stage does not have, and for negative numbers.
    """
    if call_type not in call_types(life_stage):
        raise FaunaError(
            f"{life_stage}: has no call type {call_type!r}; choose from {', '.join(call_types(life_stage))}"
        )
    voice = individual_voice(species, individual)
    kind = CALL_TYPES.index(call_type) * len(LIFE_STAGES) + LIFE_STAGES.index(life_stage)
    rng = _generator(_RENDITION, species.index, individual, seed, kind)
    manner = _manner(call_type, life_stage)
    score = _score(species.traits, voice, manner, call_type, rng)
    traits = species.traits
    if call_type == "begging call":
        traits = replace(traits, contour=Contour.ARCHING)
    return _perform(_sing(traits, voice, manner, score, rng), score, voice, rng)


def _generator(*key: int) -> np.random.Generator:
    if min(key) < 0:
        raise FaunaError(f"individual and seed are {key[2:]}; give whole numbers from 0")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _manner(call_type: CallType, life_stage: LifeStage) -> _Manner:
    manner = {"adult": _ADULT, "juvenile": _JUVENILE, "nestling": _NESTLING}[life_stage]
    if call_type == "alarm call":
        return replace(manner, pitch=manner.pitch * 1.05, speed=1.7, roughness=1.0)
    return manner


def _score(
    traits: Traits, voice: Voice, manner: _Manner, call_type: CallType, rng: np.random.Generator
) -> _Score:
    if call_type == "flight call":
        gap = rng.uniform(0.25, 0.9)
        return _Score(np.array([0.0, gap]), np.zeros(2, np.int64), rng.uniform(0.06, 0.08), 1)
    if call_type == "begging call":
        peeps = int(rng.integers(5, 11))
        gaps = rng.uniform(0.16, 0.24, peeps - 1) / voice.tempo
        onsets = np.concatenate(([0.0], np.cumsum(gaps)))
        return _Score(onsets, np.zeros(peeps, np.int64), rng.uniform(0.06, 0.08), 1)

    notes = traits.count.notes
    period = 1.0 / (traits.tempo.rate * voice.tempo * manner.speed * rng.uniform(0.985, 1.015))
    note = period * voice.duty * manner.duty
    length = (notes - 1) * period + note
    if call_type == "alarm call":
        pause = 0.12
        phrases = 3
    elif call_type == "song":
        pause = voice.pause
        room = int((MAX_SONG_SECONDS - 0.1 + pause) / (length + pause))
        phrases = min(room, int(rng.integers(2, 4)))
    else:
        pause = 0.0
        phrases = 1
    loose = rng.uniform(-manner.looseness, manner.looseness, (phrases, notes)) * period
    loose[:, 0] = 0.0
    starts = np.arange(phrases)[:, None] * (length + pause)
    onsets = starts + np.arange(notes)[None, :] * period + loose
    return _Score(onsets.ravel(), np.tile(np.arange(notes), phrases), note, notes)


def _sing(traits: Traits, voice: Voice, manner: _Manner, score: _Score, rng: np.random.Generator) -> Doubles:
    """All notes of a score, (notes, samples of one note)."""
    count = len(score.onsets)
    seconds = np.arange(round(score.note * SAMPLE_RATE)) / SAMPLE_RATE
    octaves = _contour(traits.contour, seconds / score.note, score, voice)
    octaves = octaves + rng.normal(0.0, 0.006) + rng.normal(0.0, manner.straying, (count, 1))
    vibrato = 2 * np.pi * voice.vibrato_rate * seconds + rng.uniform(0, 2 * np.pi, (count, 1))
    octaves += voice.vibrato * np.sin(vibrato)
    if manner.quaver:
        rates, phases = rng.uniform(4.0, 9.0, (2, count, 1)), rng.uniform(0, 2 * np.pi, (2, count, 1))
        octaves += manner.quaver * np.sin(2 * np.pi * rates * seconds + phases).mean(axis=0)
    strength = np.ones((count, len(seconds)))
    if traits.timbre is Timbre.TRILL:
        turn = 2 * np.pi * voice.trill_rate * seconds
        octaves += 0.09 * np.sin(turn)
        strength *= 0.72 - 0.28 * np.cos(turn)
    if traits.timbre is Timbre.BUZZ:
        strength *= _pulses(voice.pulse_rate, _sharpness(traits), seconds)
    if manner.roughness:
        strength *= 1 + manner.roughness * (_pulses(rng.uniform(46.0, 56.0), 2.0, seconds) - 1)
        octaves += 0.05 * manner.roughness * rng.uniform(-1, 1, (count, 1))

    centre = traits.register.hertz * voice.pitch * manner.pitch
    hertz = centre * np.exp2(octaves)
    phase = np.cumsum(hertz, axis=1) * (2 * np.pi / SAMPLE_RATE) + rng.uniform(0, 2 * np.pi, (count, 1))
    tone = _tone(traits.timbre, np.mod(phase, 2 * np.pi), hertz, voice, manner, rng)
    if manner.roughness:
        tone = tone + 0.6 * manner.roughness * _noise(phase, centre, rng)
    return tone * strength * _envelope(seconds, score, voice, manner, rng)


def _contour(contour: Contour, time: Doubles, score: _Score, voice: Voice) -> Doubles:
    """Octaves from the centre, (notes, samples); each contour's mean is about 0, so it keeps its register.

    time: (samples,) from 0 to 1 over a note.
    """
    time = time**voice.lag
    if contour is Contour.ROCKING:
        high = np.where(score.turns % 2 == 0, 1.0, -1.0)[:, None]
        return ROCK * high * np.ones_like(time)
    shape = {
        Contour.LEVEL: np.zeros_like(time),
        Contour.RISING: 2 * time - 1,
        Contour.FALLING: 1 - 2 * time,
        Contour.ARCHING: -np.cos(2 * np.pi * time),
        Contour.DIPPING: np.cos(2 * np.pi * time),
    }[contour]
    return SWEEP * voice.sweep * shape * np.ones((len(score.onsets), 1))


def _tone(
    timbre: Timbre, phase: Doubles, hertz: Doubles, voice: Voice, manner: _Manner, rng: np.random.Generator
) -> Doubles:
    if timbre is Timbre.HONK:
        return _harmonics(phase, hertz, voice, manner)
    if timbre is Timbre.RASP:
        return np.sin(phase) * (1.3 - voice.balance) + voice.balance * _noise(phase, hertz.mean(), rng)
    if timbre is Timbre.CHIME:
        # Both lie about the centre, so that a chimer's register is heard as every other animal's.
        apart = voice.interval**0.5
        turns = np.cumsum(hertz, axis=1) * (2 * np.pi / SAMPLE_RATE)
        return np.sin(turns / apart) + voice.balance * np.sin(turns * apart)
    return np.sin(phase)


def _harmonics(phase: Doubles, hertz: Doubles, voice: Voice, manner: _Manner) -> Doubles:
    """Harmonics up to `HIGHEST`; one that crosses it on its way fades out."""
    short = phase.astype(np.float32)
    total = np.zeros_like(short)
    lowest = float(hertz.min())
    for number in range(1, min(_MAX_HARMONICS, int(HIGHEST / lowest)) + 1):
        gain = number ** -(voice.slope + manner.thinness)
        if number > 2:  # the second is what tells a shrill honk from a whistle: no voice weakens it
            gain *= 10 ** (voice.colour[number - 1] / 20)
        fade = np.clip((HIGHEST - number * hertz) / 300.0, 0.0, 1.0).astype(np.float32)
        total += np.float32(gain) * fade * np.sin(np.float32(number) * short)
    return total.astype(np.float64)


def _noise(phase: Doubles, centre: float, rng: np.random.Generator) -> Doubles:
    """Noise of unit power in a band that follows the tone's pitch, shaped as `phase`."""
    size = fft.next_fast_len(phase.size)
    width = 0.12 * centre + 10.0  # Hz, standard deviation
    shape = np.exp(-((np.fft.fftfreq(size, 1 / SAMPLE_RATE) / width) ** 2) / 4)
    real, imaginary = rng.standard_normal((2, size))
    band = fft.ifft((real + 1j * imaginary) * shape)[: phase.size]
    heard = (band * np.exp(1j * phase.ravel())).real
    return (heard / np.sqrt(np.mean(heard**2))).reshape(phase.shape)


def _pulses(rate: float, sharpness: float, seconds: Doubles) -> Doubles:
    """Strength between exp(-2 sharpness) and 1, `rate` times per second."""
    return np.exp(sharpness * (np.cos(2 * np.pi * rate * seconds) - 1))


def _sharpness(traits: Traits) -> float:
    """How short a buzz's pulses are: longer in deep voices, whose contour side bands would drown."""
    return float((traits.register.hertz / 300.0) ** 0.4)


def _envelope(
    seconds: Doubles, score: _Score, voice: Voice, manner: _Manner, rng: np.random.Generator
) -> Doubles:
    """Strength of each note over time, (notes, samples); starts and ends at 0 without a corner."""
    attack = min(voice.attack, 0.3 * score.note)
    release = 0.25 * score.note
    rise = np.clip(seconds / attack, 0.0, 1.0)
    fall = np.clip((score.note - seconds) / release, 0.0, 1.0)
    shape = (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall))
    inside = -voice.decay * seconds / score.note
    along = voice.crescendo * score.turns / max(1, score.phrase_notes - 1)
    chance = rng.uniform(-manner.unevenness, manner.unevenness, len(score.onsets))
    return shape * 10 ** (inside / 20) * 10 ** ((along + chance)[:, None] / 20)


def _perform(notes: Doubles, score: _Score, voice: Voice, rng: np.random.Generator) -> Vocalisation:
    """Notes put in their places, heard through the vocal tract, at a chosen peak."""
    onsets = score.onsets + _MARGIN
    length = notes.shape[1]
    starts = np.round(onsets * SAMPLE_RATE).astype(int)
    signal = np.zeros(starts[-1] + length + round(_MARGIN * SAMPLE_RATE), dtype=np.float32)
    for start, note in zip(starts, notes, strict=True):
        signal[start : start + length] += note
    samples = _vocal_tract(signal, voice)
    samples *= np.float32(rng.uniform(0.55, 0.85)) / np.abs(samples).max()

    times = tuple((float(start), float(start + score.note)) for start in onsets)
    size = score.phrase_notes
    phrases = tuple((times[first][0], times[first + size - 1][1]) for first in range(0, len(times), size))
    return Vocalisation(samples, times, phrases)


def _vocal_tract(signal: FloatArray, voice: Voice) -> FloatArray:
    """The individual's resonance, and nothing outside `LOWEST` to `HIGHEST`."""
    size = fft.next_fast_len(len(signal) + SAMPLE_RATE // 10, real=True)
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    with np.errstate(divide="ignore"):
        octaves = np.log2(hertz / np.float32(voice.formant))
    response = 10 ** (voice.resonance / 20 * np.exp(-(octaves**2)))
    low = np.clip((hertz - LOWEST) / 50.0, 0.0, 1.0)
    high = np.clip((HIGHEST - hertz) / 200.0, 0.0, 1.0)
    response *= (0.5 - 0.5 * np.cos(np.pi * low)) * (0.5 - 0.5 * np.cos(np.pi * high))
    heard: FloatArray = fft.irfft(fft.rfft(signal, size) * response.astype(np.float32), size)[: len(signal)]
    return heard
