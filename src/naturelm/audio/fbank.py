"""Kaldi log-mel filter bank in batched torch: the front end that BEATs was trained with.

Follows Kaldi's `compute-fbank-feats` (Povey window, DC offset removed per frame,
pre-emphasis, power spectrum, no dither, `snip_edges=true`); numbers agree with
torchaudio's `compliance.kaldi.fbank` to float32 rounding.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_MEL_BREAK_HZ = 700.0
_MEL_SCALE = 1127.0


@dataclass(frozen=True)
class FilterBankOptions:
    """Geometry of the filter bank; the defaults are Kaldi's at 16 kHz with 128 mel bins."""

    sample_rate: int = 16_000  # Hz
    num_mel_bins: int = 128
    frame_length: int = 400  # samples, 25 ms
    frame_shift: int = 160  # samples, 10 ms
    low_frequency: float = 20.0  # Hz; the top is the Nyquist frequency
    pre_emphasis: float = 0.97

    @property
    def fft_length(self) -> int:
        """Samples of the zero-padded frame: the next power of two."""
        return 1 << (self.frame_length - 1).bit_length()

    def num_frames(self, num_samples: int) -> int:
        """Frames that lie wholly inside `num_samples` samples."""
        return max(0, 1 + (num_samples - self.frame_length) // self.frame_shift)


def kaldi_fbank(waveform: Tensor, options: FilterBankOptions | None = None) -> Tensor:
    """Log-mel energies of a batch of waveforms.

    waveform: (batch, samples), any float type; it is computed in float32, or in float64 when
    given float64, since half precision loses the quiet bins. Kaldi's scale is that of 16-bit
    integers: multiply [-1, 1] sound by 2**15 for its numbers.

    Returns (batch, frames, mel bins) float32 (or float64).
    """
    options = options or FilterBankOptions()
    dtype = torch.float64 if waveform.dtype == torch.float64 else torch.float32
    # Autocast would run the mel matrix product in half precision.
    with torch.autocast(waveform.device.type, enabled=False):
        frames = waveform.to(dtype).unfold(-1, options.frame_length, options.frame_shift)
        frames = frames - frames.mean(-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        frames = frames - options.pre_emphasis * previous
        frames = frames * _povey_window(options.frame_length, waveform.device, dtype)
        power = torch.fft.rfft(frames, n=options.fft_length).abs().square()
        energies = power @ _mel_matrix(options, waveform.device, dtype)
        return energies.clamp_min(torch.finfo(torch.float32).eps).log()


@lru_cache(maxsize=16)
def _povey_window(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    hann = torch.hann_window(length, periodic=False, device=device, dtype=dtype)
    return hann.pow(0.85)


@lru_cache(maxsize=16)
def _mel_matrix(options: FilterBankOptions, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Triangular filters, (fft_length / 2 + 1, mel bins); the Nyquist bin belongs to none."""
    num_bins = options.fft_length // 2
    frequencies = options.sample_rate / options.fft_length * torch.arange(num_bins, dtype=dtype)
    mel = _to_mel(frequencies).unsqueeze(1)
    low = float(_to_mel(torch.tensor(options.low_frequency, dtype=torch.float64)))
    high = float(_to_mel(torch.tensor(options.sample_rate / 2, dtype=torch.float64)))
    step = (high - low) / (options.num_mel_bins + 1)
    index = torch.arange(options.num_mel_bins, dtype=dtype)
    left, centre, right = low + index * step, low + (index + 1) * step, low + (index + 2) * step
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return torch.cat([triangles, triangles.new_zeros(1, options.num_mel_bins)]).to(device)


def _to_mel(frequency: Tensor) -> Tensor:
    return _MEL_SCALE * torch.log(1.0 + frequency / _MEL_BREAK_HZ)
