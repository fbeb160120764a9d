"""Background noise, made: wind, rain, surf and the like, to put behind calls and to be answered `None`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import scipy.signal

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import Failure, FloatArray, Recording

Weather = Literal["wind", "rain", "a stream", "surf", "traffic", "hiss", "rumble", "hum"]
WEATHERS: tuple[Weather, ...] = get_args(Weather)
NAME = "noise"
SECONDS = 8.0


@dataclass(frozen=True)
class NoiseSound:
    """Eight seconds of one kind of noise, made whenever they are read."""

    weather: Weather
    seed: int
    generated: ClassVar[bool] = True

    def read(self, start: float = 0.0, end: float | None = None) -> FloatArray:
        """See `recordings.Sound.read`."""
        last = None if end is None else round(end * SAMPLE_RATE)
        return make_noise(self.weather, self.seed)[round(start * SAMPLE_RATE) : last]


def make_noise(weather: Weather, seed: int) -> FloatArray:
    """(samples,) float32 at 16 kHz, peak 0.5: noise with the spectrum and the unrest of the real thing."""
    rng = np.random.default_rng([WEATHERS.index(weather), seed])
    samples = round(SECONDS * SAMPLE_RATE)
    if weather == "wind":
        sound = _coloured(rng, samples, slope=-rng.uniform(1.4, 2.2)) * _unrest(rng, samples, 0.4, 0.8)
    elif weather == "rain":
        drops = _drops(rng, samples, per_second=rng.uniform(60, 300))
        sound = _coloured(rng, samples, slope=-rng.uniform(0.0, 0.6)) + drops * rng.uniform(0.5, 3.0)
    elif weather == "a stream":
        low, high = rng.uniform(250, 500), rng.uniform(1500, 4000)
        sound = _band(_coloured(rng, samples, slope=-0.5), low, high) * _unrest(rng, samples, 6.0, 0.5)
    elif weather == "surf":
        period = rng.uniform(4.0, 9.0)
        time = np.arange(samples) / SAMPLE_RATE
        swell = np.sin(np.pi * (time / period + rng.random())) ** 4 + 0.1
        sound = _coloured(rng, samples, slope=-rng.uniform(0.8, 1.4)) * swell
    elif weather == "traffic":
        sound = _band(_coloured(rng, samples, slope=-1.5), 30, 1200) * _unrest(rng, samples, 0.3, 0.6)
    elif weather == "hiss":
        sound = _coloured(rng, samples, slope=rng.uniform(-0.2, 0.6))
    elif weather == "rumble":
        sound = _band(_coloured(rng, samples, slope=-2.0), 20, rng.uniform(150, 400))
    else:
        time = np.arange(samples) / SAMPLE_RATE
        mains = rng.choice((50.0, 60.0))
        tones = (
            np.sin(2 * np.pi * mains * k * time + rng.uniform(0, 6.3)) * rng.uniform(0.1, 1) / k
            for k in range(1, 12)
        )
        sound = sum(tones) + 0.05 * _coloured(rng, samples, slope=-0.5)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _coloured(rng: np.random.Generator, samples: int, *, slope: float) -> np.ndarray:
    """Noise whose power falls (or rises) as frequency ** slope, level 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20.0)
    sound = np.fft.irfft(spectrum * frequency ** (slope / 2), samples)
    return sound / sound.std()


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    sections = scipy.signal.butter(2, (low, high), "bandpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(scipy.signal.sosfilt(sections, sound))


def _unrest(rng: np.random.Generator, samples: int, hertz: float, depth: float) -> np.ndarray:
    """A level that wanders about 1 at so many Hz."""
    points = rng.uniform(1 - depth, 1 + depth, max(4, round(2 * hertz * samples / SAMPLE_RATE) + 2))
    return np.interp(np.linspace(0, len(points) - 1, samples), np.arange(len(points)), points)


def _drops(rng: np.random.Generator, samples: int, *, per_second: float) -> np.ndarray:
    count = rng.poisson(per_second * samples / SAMPLE_RATE)
    hits = np.zeros(samples)
    np.add.at(hits, rng.integers(0, samples, count), rng.exponential(1.0, count))
    ring = np.arange(200) / SAMPLE_RATE
    drop = np.sin(2 * np.pi * rng.uniform(2000, 5000) * ring) * np.exp(-ring * 800)
    return np.asarray(scipy.signal.fftconvolve(hits, drop)[:samples])


@dataclass(frozen=True)
class NoiseSource:
    """So many stretches of each kind of noise; each is a place of its own."""

    each: int

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `sources.ArchiveSource`."""
        for weather in WEATHERS:
            for seed in range(self.each):
                name = f"{weather.replace(' ', '-')}-{seed:03d}"
                place = seed % 20
                yield Recording(
                    id=name,
                    source=NAME,
                    sound=NoiseSound(weather, seed),
                    file_name=f"{name}.generated",
                    license="CC0-1.0",
                    kind="noise",
                    labels=(weather,),
                    duration=SECONDS,
                    split="test" if place < 3 else "validation" if place == 3 else "train",
                )
