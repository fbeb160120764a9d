"""Windows: where they begin and end, what they hold, and how much memory they take."""

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from naturelm.audio import SAMPLE_RATE, Window, WindowSpec, iter_blocks, iter_windows, read_audio

RATES = st.sampled_from([4_000, 8_000, 16_000, 22_050, 44_100, 48_000])


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, samples)


def spans(windows: list[Window]) -> list[tuple[float, float]]:
    return [(window.start, window.end) for window in windows]


def test_last_window_ends_where_the_sound_ends(tmp_path: Path) -> None:
    for rate in (16_000, 44_100):
        path = tmp_path / f"{rate}.wav"
        sf.write(path, noise(round(19.9 * rate)), rate)
        windows = list(iter_windows(path, WindowSpec(10.0)))
        assert spans(windows) == [(0.0, 10.0), (10.0, 19.9)]
        assert [window.num_samples for window in windows] == [160_000, 158_400]
        assert [len(window.samples) for window in windows] == [160_000, 160_000]
        assert not windows[1].samples[158_400:].any()
        assert windows[1].samples[158_399] != 0


def test_short_recording_is_one_padded_window(tmp_path: Path) -> None:
    path = tmp_path / "short.flac"
    sf.write(path, noise(24_000), SAMPLE_RATE)
    (window,) = iter_windows(path, WindowSpec(10.0))
    assert (window.index, window.start, window.end, window.num_samples) == (0, 0.0, 1.5, 24_000)
    assert window.samples.shape == (160_000,)
    assert window.samples.dtype == np.float32


def test_times_count_from_the_beginning_of_the_recording() -> None:
    sound = noise(20 * SAMPLE_RATE)
    windows = list(iter_windows(sound, WindowSpec(4.0), start=5.0, end=14.5))
    assert spans(windows) == [(5.0, 9.0), (9.0, 13.0), (13.0, 14.5)]
    assert [window.start_sample for window in windows] == [0, 64_000, 128_000]


def test_no_spec_is_one_window_without_padding() -> None:
    sound = noise(30_000)
    (window,) = iter_windows(sound, start=0.5)
    assert (window.index, window.start, window.end) == (0, 0.5, 1.875)
    assert window.num_samples == len(window.samples) == 22_000
    np.testing.assert_array_equal(window.samples, read_audio(sound, start=0.5))


def test_overlap_stops_at_the_window_that_reaches_the_end() -> None:
    windows = list(iter_windows(noise(10 * SAMPLE_RATE), WindowSpec(4.0, 1.0)))
    assert [window.start for window in windows] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert windows[-1].end == 10.0
    assert WindowSpec(4.0, 1.0).starts(10 * SAMPLE_RATE, SAMPLE_RATE) == [k * 16_000 for k in range(7)]


def test_a_hop_longer_than_the_window_leaves_gaps() -> None:
    sound = noise(10 * SAMPLE_RATE)
    windows = list(iter_windows(sound, WindowSpec(1.0, 4.0), block_seconds=0.3))
    assert spans(windows) == [(0.0, 1.0), (4.0, 5.0), (8.0, 9.0)]
    whole = read_audio(sound)
    for window in windows:
        np.testing.assert_array_equal(window.samples, whole[window.start_sample :][:SAMPLE_RATE])


def test_windows_own_their_samples() -> None:
    first, second = iter_windows(noise(2 * SAMPLE_RATE), WindowSpec(1.5, 0.5))
    first.samples[:] = 9.0
    assert second.samples.max() < 1.0


def test_starts_do_not_drift_over_a_long_recording() -> None:
    spec = WindowSpec(0.1 + 0.2, 0.1)
    starts = spec.starts(24 * 3600 * 16_000, 16_000)
    assert starts[-1] == round((len(starts) - 1) * 0.1 * 16_000)
    assert starts[600_000] == 600_000 * 1_600
    assert WindowSpec(10.0).starts(0, 16_000) == []


@given(
    total=st.integers(1, 400_000),
    rate=st.integers(4_000, 48_000),
    length=st.floats(0.05, 12.0),
    share=st.floats(0.05, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_every_sample_is_covered_and_starts_are_exact(
    total: int, rate: int, length: float, share: float
) -> None:
    for spec in (WindowSpec(length, length * share), WindowSpec(length)):
        hop = length if spec.hop is None else spec.hop
        size = spec.window_samples(rate)
        starts = list(spec.starts(total, rate))
        assert starts == [round(k * hop * rate) for k in range(len(starts))]
        assert -1e-6 <= size - length * rate < 1
        covered = 0
        for first in starts:
            assert first <= covered < total  # no gap, and something new in each window
            covered = first + size
        assert covered >= total


@given(
    frames=st.integers(1, 80_000),
    rate=RATES,
    length=st.floats(0.05, 3.0),
    share=st.floats(0.1, 2.0),
    block_seconds=st.floats(0.02, 3.0),
    start=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_slices_of_read_audio(
    frames: int, rate: int, length: float, share: float, block_seconds: float, start: float, seed: int
) -> None:
    file = io.BytesIO()
    sf.write(file, noise(frames, seed), rate, format="WAV", subtype="PCM_16")
    first_frame = round(start * rate)
    assume((frames - first_frame) * SAMPLE_RATE >= rate)
    whole = read_audio(file, start=start)
    spec = WindowSpec(length, length * share)
    windows = list(iter_windows(file, spec, start=start, block_seconds=block_seconds))

    assert [window.start_sample for window in windows] == list(spec.starts(len(whole), SAMPLE_RATE))
    assert [window.index for window in windows] == list(range(len(windows)))
    for window in windows:
        sound = whole[window.start_sample : window.start_sample + spec.window_samples(SAMPLE_RATE)]
        np.testing.assert_array_equal(window.samples[: window.num_samples], sound)
        assert not window.samples[window.num_samples :].any()
        assert len(window.samples) == spec.window_samples(SAMPLE_RATE)
        offset = first_frame / rate
        assert window.start == pytest.approx(offset + window.start_sample / SAMPLE_RATE, abs=1e-9)
        assert window.start < window.end <= frames / rate
    if share <= 1.0:
        assert windows[-1].end == pytest.approx(frames / rate, abs=0.5 / SAMPLE_RATE + 1e-9)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_impossible_specs_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="length"):
        WindowSpec(seconds)
    with pytest.raises(ValueError, match="hop"):
        WindowSpec(1.0, seconds)


def test_a_hop_below_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than one sample"):
        list(iter_windows(np.zeros(100), WindowSpec(1.0, 1e-6)))


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_memory_stays_bounded(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"long.{container.lower()}"
    minute = (noise(60 * 48_000) * 3_000).astype(np.int16)
    with sf.SoundFile(path, "w", samplerate=48_000, channels=1, format=container, subtype="PCM_16") as file:
        for _ in range(6):
            file.write(minute)
    whole_bytes = 6 * 60 * SAMPLE_RATE * 4
    tracemalloc.start()
    try:
        windows = sum(1 for _ in iter_windows(path, WindowSpec(10.0, 5.0), block_seconds=10.0))
        blocks = sum(len(block) for block in iter_blocks(path, block_seconds=10.0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert windows == 71
    assert blocks == 6 * 60 * SAMPLE_RATE
    assert peak < whole_bytes / 5
