"""How much louder than noise a call must be to be heard: a label needs a sound that stands for it.

A tone is heard in noise far louder than itself, for it has all its power in one narrow band; a rasp as
broad as the noise is not. So calls and noise are compared by bands of a third of an octave, about the
width in which the ear does (Moore & Glasberg 1983).
"""

import numpy as np
import numpy.typing as npt

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import FloatArray

STANDS_OUT_DB = 3.0
"""By which a call's loudest band must exceed the noise in that band."""
_FRAME, _HOP = 1024, 512
_CENTRES = 125.0 * 2 ** (np.arange(19) / 3)
_BINS = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
# (bins, bands): which bin of a spectrum lies in which band.
_BANDS = np.abs(np.log2(np.maximum(_BINS, 1.0)[:, None] / _CENTRES)) <= 1 / 6
_CALL_SHARE = 0.25
_NOTHING = 1e-12


def band_levels_db(sound: FloatArray, loudest: float = 1.0) -> npt.NDArray[np.float64]:
    """(19,) level of each band from 125 Hz to 8 kHz, dB, over the loudest share of the frames of 64 ms.

    sound: (samples,) float32 at 16 kHz.
    """
    padded = np.pad(sound, (0, max(0, _FRAME - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP] * np.hanning(_FRAME)
    powers = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _BANDS
    order = np.argsort(-powers.sum(axis=1), kind="stable")
    kept = powers[order[: max(1, round(loudest * len(order)))]]
    return np.asarray(10 * np.log10(kept.mean(axis=0) + _NOTHING))


def headroom_db(call: FloatArray, noise: FloatArray) -> float:
    """By how many dB a call, when it is loudest, exceeds noise in the band in which it is loudest.

    Not in any band: speech in the sound of a stream is not understood for the hiss of its s above it.
    """
    levels = band_levels_db(call, _CALL_SHARE)
    loudest = int(levels.argmax())
    return float(levels[loudest] - band_levels_db(noise)[loudest])
