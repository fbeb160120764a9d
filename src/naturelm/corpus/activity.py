"""Where in a recording something is heard: levels of short steps, found once and kept with the recording."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.recordings import FloatArray

STEP_SECONDS = 0.05
_STEP = round(STEP_SECONDS * SAMPLE_RATE)
_FLOOR_DB = -100.0
SILENT_DB = -70.0
"""A recording whose loudest step is below this holds no sound that could be labelled."""
_BELOW_PEAK_DB = 20.0
_ABOVE_NOISE_DB = 6.0
_CALL_BELOW_PEAK_DB = 10.0
_LEAST_STEPS = 2
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Activity:
    """Level of each step of a recording."""

    levels: npt.NDArray[np.int8]
    """(steps,) dB re full scale, of the root mean square in steps of 0.05 s, not below -100."""

    @classmethod
    def of(cls, waveform: FloatArray) -> "Activity":
        """Levels of `waveform`: (samples,) float32 at 16 kHz. The last, incomplete step counts as whole."""
        steps = -(-len(waveform) // _STEP)
        padded = np.zeros(steps * _STEP, dtype=np.float64)
        padded[: len(waveform)] = waveform
        power = np.square(padded).reshape(steps, _STEP).mean(axis=1)
        decibels = 10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))
        return cls(np.round(decibels).astype(np.int8))

    def to_bytes(self) -> bytes:
        """One byte a step."""
        return self.levels.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Activity":
        """What `to_bytes` gave."""
        return cls(np.frombuffer(data, dtype=np.int8))

    @property
    def loudest_db(self) -> float:
        """Level of the loudest step."""
        return float(self.levels.max(initial=int(_FLOOR_DB)))

    @property
    def silent(self) -> bool:
        """Whether nothing at all is heard."""
        return self.loudest_db < SILENT_DB

    @property
    def active(self) -> npt.NDArray[np.bool_]:
        """(steps,) True where sound stands out: near the loudest level, and clear of the quiet parts'.

        A steady sound has no quiet part to stand out from; it is active throughout.
        """
        near_peak = self.levels >= self.loudest_db - _BELOW_PEAK_DB
        if self.loudest_db - self._quiet_db < 2 * _ABOVE_NOISE_DB:
            return near_peak
        return near_peak & (self.levels >= self._quiet_db + _ABOVE_NOISE_DB)

    @property
    def calling(self) -> npt.NDArray[np.bool_]:
        """(steps,) True where the call is: within 10 dB of the loudest step, and clear of the quiet parts'."""
        return self._clear & (self.levels >= self.loudest_db - _CALL_BELOW_PEAK_DB)

    @property
    def _clear(self) -> npt.NDArray[np.bool_]:
        """(steps,) True where what is active is also clear of the quiet parts, if anything is."""
        clear = self.levels >= self._quiet_db + _ABOVE_NOISE_DB
        return self.active & clear if clear.any() else self.active

    @property
    def _quiet_db(self) -> float:
        return float(np.percentile(self.levels, 10)) if self.levels.size else _FLOOR_DB

    def share_within(self, start: float, end: float) -> float:
        """Share, 0 to 1, of the recording's active sound energy that lies between start and end (s)."""
        energy = np.where(self.active, 10 ** (self.levels.astype(np.float64) / 10), 0.0)
        first, last = round(start / STEP_SECONDS), round(end / STEP_SECONDS)
        total = float(energy.sum())
        return float(energy[max(first, 0) : max(last, 0)].sum() / total) if total else 0.0

    def crops(self, seconds: float) -> npt.NDArray[np.float64]:
        """Starts (s) of the crops of this length that hold a call, loudest first.

        A crop holds a call when 0.1 s of it (less, if the recording has no more) is clear of the quiet
        parts, and it is `calling` somewhere: a crop that lost the call is not among them. A recording
        that is no longer is one crop, from its beginning.
        """
        active = self.active
        if self.silent or not active.any():
            return np.zeros(0)
        if len(active) * STEP_SECONDS < seconds + STEP_SECONDS * (1 - _ROUNDING):
            return np.zeros(1)
        # Whole steps only: of one that reaches over the crop's end, the call may be in the other part.
        width = max(1, int(seconds / STEP_SECONDS + _ROUNDING))
        clear = self._clear
        held = np.convolve(clear.astype(np.int64), np.ones(width, np.int64), "valid")
        reached = np.convolve(self.calling.astype(np.int64), np.ones(width, np.int64), "valid")
        starts = np.flatnonzero((held >= min(_LEAST_STEPS, width, clear.sum())) & (reached >= 1))
        return (starts[np.argsort(-reached[starts], kind="stable")] * STEP_SECONDS).astype(np.float64)
