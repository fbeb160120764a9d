"""Spectrograms to look at: levels in dB over mel or linear frequency, drawn with readable axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import ShortTimeFFT, get_window

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import Event, FloatArray
from naturelm.errors import AudioError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

FrequencyScale = Literal["mel", "linear"]
Array = npt.NDArray[np.float64]

FLOOR_DB = -120.0
"""Level of digital silence: below the last bit of 16-bit sound."""
_MEL_TICKS_KHZ = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_LINEAR_STEPS_KHZ = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_LONGEST_NAME = 48
_EVENT_COLOURS = ("#4cc9f0", "#f9c74f", "#90be6d", "#f28482", "#cdb4db", "#ffffff")


@dataclass(frozen=True)
class SpectrogramOptions:
    """How fine a spectrogram is."""

    scale: FrequencyScale = "mel"
    window_seconds: float = 0.032
    """Length of the Hann window."""
    hop_seconds: float = 0.008
    mel_bands: int = 128
    low_hz: float = 0.0
    high_hz: float | None = None
    """Highest frequency; None for half the sample rate."""


@dataclass(frozen=True)
class Spectrogram:
    """Levels of one sound."""

    levels: FloatArray
    """(frequencies, frames) in dB relative to a full-scale sine; `FLOOR_DB` for silence."""
    frequencies: Array
    """(frequencies,) centres in Hz, rising."""
    scale: FrequencyScale
    low_hz: float
    high_hz: float
    seconds: float
    """Length of the sound; the frames are spread over it evenly."""


def hz_to_mel(hz: Array | float) -> Array:
    """Mel scale, 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0))


def mel_to_hz(mel: Array | float) -> Array:
    """Inverse of `hz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0))


def spectrogram(
    samples: FloatArray, sample_rate: int = SAMPLE_RATE, options: SpectrogramOptions | None = None
) -> Spectrogram:
    """Levels of (samples,) sound over time and frequency. AudioError for no samples or a band that is none."""
    options = options or SpectrogramOptions()
    high = sample_rate / 2 if options.high_hz is None else min(options.high_hz, sample_rate / 2)
    if samples.ndim != 1 or not len(samples):
        raise AudioError(f"a spectrogram needs mono sound of at least one sample, not shape {samples.shape}")
    if not 0 <= options.low_hz < high:
        raise AudioError(f"no band from {options.low_hz:g} to {high:g} Hz; give a lower `low_hz`")
    window = max(2, round(options.window_seconds * sample_rate))
    transform = ShortTimeFFT(
        get_window("hann", window),
        hop=max(1, round(options.hop_seconds * sample_rate)),
        fs=sample_rate,
        # One-sided amplitudes doubled, so that a full-scale sine is at 0 dB.
        fft_mode="onesided2X",
        scale_to="magnitude",
    )
    padded = np.pad(samples.astype(np.float64), (0, max(0, window - len(samples))))
    # Frames centred from the first sample to the last. Mirrored ends: a tone that is cut off by the
    # clip's end would otherwise be drawn as a click.
    power = np.abs(transform.stft(padded, p0=0, p1=len(samples) // transform.hop + 1, padding="even")) ** 2
    bins = np.asarray(transform.f)
    if options.scale == "mel":
        frequencies = _mel_centres(options.low_hz, high, options.mel_bands)
        power = _mel_weights(bins, frequencies, options.low_hz, high) @ power
    else:
        inside = (bins >= options.low_hz) & (bins <= high)
        frequencies, power = bins[inside], power[inside]
    levels = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
    seconds = len(samples) / sample_rate
    return Spectrogram(levels.astype(np.float32), frequencies, options.scale, options.low_hz, high, seconds)


def _mel_centres(low: float, high: float, bands: int) -> Array:
    edges = np.linspace(hz_to_mel(low), hz_to_mel(high), bands + 1)
    return mel_to_hz((edges[:-1] + edges[1:]) / 2)


def _mel_weights(bins: Array, centres: Array, low: float, high: float) -> Array:
    """(bands, bins) triangles around the centres, each with the sum 1.

    No triangle is narrower than two bins: at the low end, where bands lie closer than bins, they
    interpolate between bins instead of falling between them.
    """
    around = np.concatenate([[low], centres, [high]])
    least = bins[1] - bins[0]
    below = np.maximum(centres - around[:-2], least)[:, None]
    above = np.maximum(around[2:] - centres, least)[:, None]
    distance = bins[None, :] - centres[:, None]
    weights = np.clip(1 - np.where(distance < 0, -distance / below, distance / above), 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def draw_spectrogram(
    axes: "Axes",
    drawn: Spectrogram,
    *,
    events: Sequence[Event] = (),
    range_db: float = 65.0,
    top_db: float | None = None,
    colours: str = "magma",
) -> "AxesImage":
    """Draw on matplotlib axes: seconds to the right, kHz upwards, events shaded and named.

    range_db: levels from the lightest colour to black; top_db: level of the lightest, None for the
    loudest of the sound.
    """
    place = hz_to_mel if drawn.scale == "mel" else np.asarray
    bottom, top = float(place(drawn.low_hz)), float(place(drawn.high_hz))
    # Silence stays dark, since the scale never ends below what can be there.
    loudest = max(float(drawn.levels.max()), FLOOR_DB + range_db) if top_db is None else top_db
    image = axes.imshow(
        drawn.levels,
        origin="lower",
        aspect="auto",
        extent=(0.0, drawn.seconds, bottom, top),
        vmin=loudest - range_db,
        vmax=loudest,
        cmap=colours,
        interpolation="nearest" if drawn.levels.shape[1] < 200 else "auto",
    )
    ticks = _ticks(drawn)
    axes.set_yticks([float(place(khz * 1000)) for khz in ticks], [f"{khz:g}" for khz in ticks])
    axes.set_ylabel("kHz")
    axes.set_xlabel("s", labelpad=1)
    axes.set_xlim(0.0, drawn.seconds)
    axes.set_ylim(bottom, top)
    _draw_events(axes, events, drawn.seconds)
    return image


def _ticks(drawn: Spectrogram) -> list[float]:
    low, high = drawn.low_hz / 1000, drawn.high_hz / 1000
    if drawn.scale == "mel":
        return [khz for khz in _MEL_TICKS_KHZ if low <= khz <= high]
    step = next((step for step in _LINEAR_STEPS_KHZ if (high - low) / step <= 5), high - low)
    return [float(khz) for khz in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def _draw_events(axes: "Axes", events: Sequence[Event], seconds: float) -> None:
    """Shade each event, with its name in the first lane where it covers no other name."""
    lanes: list[float] = []
    labels = list(dict.fromkeys(event.label for event in events))
    width = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: (event.start, event.end)):
        colour = _EVENT_COLOURS[labels.index(event.label) % len(_EVENT_COLOURS)]
        axes.axvspan(event.start, event.end, facecolor=colour, alpha=0.12, linewidth=0)
        for edge in (event.start, event.end):
            axes.axvline(edge, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        # About 0.075 inch a letter at size 8: what the name takes up of the time axis.
        label = event.label[:_LONGEST_NAME]
        taken = (0.075 * len(label) + 0.1) / width * seconds
        start = min(max(event.start, 0.0), max(seconds - taken, 0.0))
        lane = next((number for number, end in enumerate(lanes) if end <= start), len(lanes))
        lanes[lane : lane + 1] = [start + taken]
        axes.annotate(
            label,
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -4 - 13 * lane),
            textcoords="offset points",
            fontsize=8,
            va="top",
            color=colour,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "#000000b0", "edgecolor": "none"},
            annotation_clip=False,
            parse_math=False,
        )
