"""The filter bank against Kaldi's definition, written out bin by bin in float64."""

import math

import numpy as np
import pytest
import torch

from naturelm.audio.fbank import FilterBankOptions, kaldi_fbank
from tiny import noise


def reference_fbank(samples: np.ndarray) -> np.ndarray:
    """(frames, 128) of int16-scaled samples at 16 kHz: 25 ms Povey window, 10 ms shift, from 20 Hz."""
    length, shift, fft, bins = 400, 160, 512, 128
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(length) / (length - 1))
    filters = reference_filters(fft, bins)
    rows = []
    for start in range(0, len(samples) - length + 1, shift):
        frame = samples[start : start + length].astype(np.float64)
        frame = frame - frame.mean()
        emphasised = frame.copy()
        for i in range(length - 1, 0, -1):
            emphasised[i] -= 0.97 * emphasised[i - 1]
        emphasised[0] -= 0.97 * emphasised[0]
        spectrum = np.fft.rfft(emphasised * hann**0.85, fft)
        power = spectrum.real**2 + spectrum.imag**2
        rows.append(np.log(np.maximum(filters @ power[: fft // 2], np.finfo(np.float32).eps)))
    return np.array(rows)


def reference_filters(fft: int, bins: int) -> np.ndarray:
    """(bins, fft / 2) triangles in mel; the Nyquist bin is left out."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    low, high = mel(20.0), mel(8000.0)
    delta = (high - low) / (bins + 1)
    weights = np.zeros((bins, fft // 2))
    for row in range(bins):
        left, centre, right = low + row * delta, low + (row + 1) * delta, low + (row + 2) * delta
        for column in range(fft // 2):
            here = mel(column * 16_000 / fft)
            if left < here < right:
                rising = (here - left) / (centre - left)
                weights[row, column] = rising if here <= centre else (right - here) / (right - centre)
    return weights


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Noise, a tone, a DC offset and a silent stretch, at the scale of 16-bit integers."""
    seconds = np.arange(8_000) / 16_000
    samples = noise(0.5, seed=3) + 0.3 * np.sin(2 * np.pi * 3_000 * seconds) + 0.05
    samples[5_000:6_500] = 0
    return samples * 2**15


def test_float64_equals_the_definition(sound: np.ndarray) -> None:
    ours = kaldi_fbank(torch.from_numpy(sound).double()[None])[0].numpy()
    expected = reference_fbank(sound)
    assert ours.shape == expected.shape == (48, 128)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


def test_float32_is_near_the_definition(sound: np.ndarray) -> None:
    ours = kaldi_fbank(torch.from_numpy(sound).float()[None])[0]
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), reference_fbank(sound), rtol=0, atol=2e-3)


def test_silence_is_the_floor() -> None:
    floor = math.log(torch.finfo(torch.float32).eps)
    assert torch.equal(kaldi_fbank(torch.zeros(1, 560)), torch.full((1, 2, 128), floor))


@pytest.mark.parametrize("samples", [0, 399, 400, 559, 560, 16_000])
def test_frames_lie_wholly_inside(samples: int) -> None:
    expected = len(range(0, samples - 400 + 1, 160))
    assert FilterBankOptions().num_frames(samples) == expected
    if expected:
        assert kaldi_fbank(torch.zeros(1, samples)).shape == (1, expected, 128)


def test_batch_equals_single() -> None:
    batch = torch.from_numpy(np.stack([noise(0.4, seed=seed) for seed in range(3)])) * 2**15
    together = kaldi_fbank(batch)
    for row, clip in zip(together, batch, strict=True):
        torch.testing.assert_close(kaldi_fbank(clip[None])[0], row, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_leaves_it_alone(kind: torch.dtype) -> None:
    """The original runs it under bfloat16 autocast, which rounds the mel energies."""
    waveform = torch.from_numpy(noise(0.4))[None] * 2**15
    expected = kaldi_fbank(waveform)
    with torch.autocast("cpu", dtype=kind):
        inside = kaldi_fbank(waveform)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)
