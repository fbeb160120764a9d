"""Spectrograms of recordings of any length, in bounded memory, and the events that were found in them, as HTML."""

import base64
import io
import math
import threading
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from naturelm.audio import SAMPLE_RATE, iter_blocks
from naturelm.audio.sources import open_recording
from naturelm.corpus.spectrogram import (
    FLOOR_DB,
    Spectrogram,
    SpectrogramOptions,
    draw_spectrogram,
    hz_to_mel,
    spectrogram,
)
from naturelm.scan.events import Event

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOP_SECONDS = 0.008
_COLUMNS = 1_200
_BLOCK_SAMPLES = 2**20
_MOST_LANES = 10
_SIZES = {"wide": ((9.4, 2.7), 110), "narrow": ((3.9, 2.5), 190)}
"""Inches and dots an inch; the narrow one is for telephones, so that its letters can be read there."""
_LANE_INCHES = 0.24
_NARROW_PIXELS = 640
_COLOURS = ("#0b7a75", "#b3541e", "#5b4b9a", "#a3264b", "#3d7c2b", "#1f5fa8")


class Painter:
    """Draws one picture after the other: matplotlib is not made for several threads."""

    def __init__(self, heard_hz: float) -> None:
        """heard_hz: the highest frequency that the model hears."""
        self._heard = heard_hz
        self._turn = threading.Lock()

    def recording(self, path: Path, name: str, seconds: float) -> str:
        """The spectrogram of a recording as HTML. AudioError where it cannot be read."""
        levels = recording_levels(path, seconds)
        about = f"{name}: {_length(seconds)}, up to {levels.high_hz / 1000:g} kHz"
        return self._figure(levels, f"Spectrogram of {name}, {_length(seconds)}", about, ())

    def timeline(self, path: Path, name: str, seconds: float, events: Sequence[Event]) -> str:
        """The spectrogram of a recording with its events above it, a lane for each of the commonest labels."""
        levels = recording_levels(path, seconds)
        number = f"{len(events)} event{'' if len(events) == 1 else 's'}"
        about = f"{name}: {_length(seconds)}, {number}"
        return self._figure(levels, f"Timeline of {number} over the spectrogram of {name}", about, events)

    def _figure(self, levels: Spectrogram, title: str, about: str, events: Sequence[Event]) -> str:
        with self._turn:
            wide, narrow = (self._picture(levels, events, size) for size in ("wide", "narrow"))
        if self._heard < 0.98 * levels.high_hz:
            about += f"; the model hears what lies below the dashed line, {self._heard / 1000:g} kHz"
        return (
            f'<figure class="spectrogram"><picture><source media="(max-width: {_NARROW_PIXELS}px)" srcset="{narrow}">'
            f'<img src="{wide}" alt="{escape(title)}"></picture><figcaption>{escape(about)}</figcaption></figure>'
        )

    def _picture(self, levels: Spectrogram, events: Sequence[Event], size: str) -> str:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        (width, height), dots = _SIZES[size]
        lanes = [label for label, _ in Counter(event.label for event in events).most_common(_MOST_LANES)]
        above = _LANE_INCHES * len(lanes) + 0.1
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, hspace=0.01)
        figure = Figure(figsize=(width, height + (above if lanes else 0)), dpi=dots, layout=layout)
        if lanes:
            top, below = figure.subplots(2, 1, sharex=True, height_ratios=[above, height])
            draw_spectrogram(below, levels)
            _draw_lanes(top, events, lanes, longest=34 if size == "wide" else 14)
        else:
            below = figure.subplots()
            draw_spectrogram(below, levels)
        if self._heard < 0.98 * levels.high_hz:
            below.axhline(float(hz_to_mel(self._heard)), color="#ffffff", linewidth=1, linestyle=(0, (4, 3)))
        below.tick_params(labelsize=9)
        return _data_url(figure)


def recording_levels(path: Path, seconds: float) -> Spectrogram:
    """Levels of a recording, at its own sample rate, in at most `_COLUMNS` columns: the loudest of each.

    seconds: its length. Raises AudioError.
    """
    with open_recording(path, SAMPLE_RATE) as recording:
        rate = recording.sample_rate
    # Of a long recording a few frames a column are enough to see it by.
    hop = max(_HOP_SECONDS, seconds / (8 * _COLUMNS))
    options = SpectrogramOptions(hop_seconds=hop)
    columns = min(_COLUMNS, math.floor(seconds / hop) + 1)
    whole = frequencies = None
    read = 0
    for block in iter_blocks(path, sample_rate=rate, block_seconds=_BLOCK_SAMPLES / rate):
        if read and len(block) < options.window_seconds * rate:
            break  # a rest too short for one frame
        part = spectrogram(block, rate, options)
        times = read / rate + np.arange(part.levels.shape[1]) * round(hop * rate) / rate
        places = np.minimum(np.rint(times / seconds * (columns - 1)).astype(int), columns - 1)
        if whole is None:
            whole, frequencies = np.full((len(part.frequencies), columns), FLOOR_DB, np.float32), part
        np.maximum.at(whole.T, places, part.levels.T)
        read += len(block)
    assert whole is not None and frequencies is not None  # an empty recording is an AudioError
    return Spectrogram(
        whole, frequencies.frequencies, frequencies.scale, frequencies.low_hz, frequencies.high_hz, seconds
    )


def _draw_lanes(axes: "Axes", events: Sequence[Event], lanes: Sequence[str], longest: int) -> None:
    """A bar for each event; the more certain, the fuller its colour."""
    for place, label in enumerate(lanes):
        own = [event for event in events if event.label == label]
        colour = _COLOURS[place % len(_COLOURS)]
        axes.axhline(-place, color="#d9dcda", linewidth=0.6, zorder=0)
        for event in own:
            axes.broken_barh(
                [(event.start, event.end - event.start)],
                (-place - 0.36, 0.72),
                facecolor=colour,
                edgecolor="white",
                linewidth=0.5,
                alpha=0.35 + 0.65 * min(max(event.score, 0.0), 1.0),
            )
    names = [label if len(label) <= longest else f"{label[: longest - 1]}…" for label in lanes]
    axes.set_yticks([-place for place in range(len(lanes))], names, fontsize=9, parse_math=False)
    axes.set_ylim(-len(lanes) + 0.4, 0.6)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _data_url(figure: "Figure") -> str:
    image = io.BytesIO()
    figure.savefig(image, format="webp", pil_kwargs={"quality": 88})
    return f"data:image/webp;base64,{base64.b64encode(image.getvalue()).decode()}"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s ({seconds:.0f} s)"
