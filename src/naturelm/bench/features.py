"""Plain numbers about a clip: statistics over time of its log-mel filter bank."""

import numpy as np
import numpy.typing as npt
import torch

from naturelm.audio.fbank import FilterBankOptions, kaldi_fbank
from naturelm.corpus.recordings import FloatArray

_FULL_SCALE = 2**15  # Kaldi's sound is in 16-bit integers
_PERCENTILES = (0.1, 0.5, 0.9)
_OPTIONS = FilterBankOptions()
FEATURES = _OPTIONS.num_mel_bins * (2 + len(_PERCENTILES) + 2)


def log_mel_statistics(samples: FloatArray) -> npt.NDArray[np.float32]:
    """(FEATURES,) float32 of a clip, (samples,) at 16 kHz, of any length.

    Of each of the 128 mel bins: mean, standard deviation and percentiles 10, 50 and 90 over time, and mean
    size and standard deviation of the change from frame to frame (10 ms). A clip shorter than two frames is
    padded with silence.
    """
    least = _OPTIONS.frame_length + _OPTIONS.frame_shift
    padded = np.pad(samples, (0, max(0, least - len(samples))))
    frames = kaldi_fbank(torch.from_numpy(padded).float()[None] * _FULL_SCALE)[0].numpy()
    deltas = np.diff(frames, axis=0)
    ordered = np.sort(frames, axis=0)
    places = [round(share * (len(frames) - 1)) for share in _PERCENTILES]
    statistics = (
        frames.mean(0),
        frames.std(0),
        *ordered[places],
        np.abs(deltas).mean(0),
        deltas.std(0),
    )
    return np.concatenate(statistics).astype(np.float32)
