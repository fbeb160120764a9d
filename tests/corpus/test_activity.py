import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.activity import STEP_SECONDS, Activity
from naturelm.corpus.recordings import FloatArray

RATE = 16_000


def burst_in_noise(begin: float, length: float, total: float, snr_db: float, seed: int) -> FloatArray:
    """A burst of noise over softer, steady noise."""
    rng = np.random.default_rng(seed)
    sound = 0.003 * rng.standard_normal(round(total * RATE))
    first, last = round(begin * RATE), round((begin + length) * RATE)
    sound[first:last] += 0.003 * 10 ** (snr_db / 20) * rng.standard_normal(last - first)
    return sound.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    place=st.floats(0, 1),
    length=st.floats(0.15, 1.5),
    total=st.floats(2, 12),
    crop=st.floats(0.5, 12),
    snr_db=st.floats(9, 45),
    seed=st.integers(0, 99),
)
def test_no_crop_has_lost_the_call(
    place: float, length: float, total: float, crop: float, snr_db: float, seed: int
) -> None:
    begin = place * (total - length)
    activity = Activity.of(burst_in_noise(begin, length, total, snr_db, seed))
    starts = activity.crops(crop)
    assert len(starts)
    for start in starts:
        assert start >= 0
        assert start == 0 or start + crop <= total + 2 * STEP_SECONDS
        heard = min(start + crop, begin + length) - max(start, begin)
        assert heard >= STEP_SECONDS - 1e-6


@settings(max_examples=50, deadline=None)
@given(place=st.floats(0.05, 0.8), length=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_the_first_crop_holds_the_whole_of_a_short_call(place: float, length: float, seed: int) -> None:
    begin = place * 10
    sound = burst_in_noise(begin, length, 10, 30, seed)
    (start, *_) = Activity.of(sound).crops(2.0)
    held = min(start + 2.0, begin + length) - max(start, begin)
    assert held >= length - 2 * STEP_SECONDS


def test_a_crop_as_long_as_the_recording_begins_where_it_begins() -> None:
    sound = burst_in_noise(1.0, 0.5, 3.02, 30, 0)
    activity = Activity.of(sound)
    for seconds in (3.02, 3.0, 5.0):
        starts = activity.crops(seconds)
        assert starts[0] == 0 if seconds < 3.02 else starts.tolist() == [0]


def test_levels_are_those_of_the_steps() -> None:
    step = round(STEP_SECONDS * RATE)
    sound = np.concatenate([np.full(step, 0.1), np.full(step, 0.01), np.zeros(step // 2)]).astype(np.float32)
    assert Activity.of(sound).levels.tolist() == [-20, -40, -100]
    assert Activity.of(sound).loudest_db == -20


def test_bytes_bring_the_same_levels_back() -> None:
    activity = Activity.of(burst_in_noise(1, 0.5, 3, 20, 5))
    again = Activity.from_bytes(activity.to_bytes())
    assert np.array_equal(again.levels, activity.levels)
    assert len(activity.to_bytes()) == 60


def test_only_the_burst_is_active_and_all_of_its_energy_is_found_in_it() -> None:
    activity = Activity.of(burst_in_noise(1.0, 0.5, 4.0, 30, 0))
    assert np.flatnonzero(activity.active).tolist() == list(range(20, 30))
    assert activity.share_within(1.0, 1.5) == pytest.approx(1.0)
    assert activity.share_within(1.0, 1.25) == pytest.approx(0.5, abs=0.1)
    assert activity.share_within(2.0, 4.0) == 0


def test_a_steady_sound_is_active_throughout_and_may_be_cut_anywhere() -> None:
    time = np.arange(4 * RATE) / RATE
    activity = Activity.of((0.2 * np.sin(2 * np.pi * 500 * time)).astype(np.float32))
    assert activity.active.all()
    assert len(activity.crops(1.0)) == 61


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(3 * RATE, np.float32),
        np.zeros(0, np.float32),
        (1e-5 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32),
    ],
    ids=["zeros", "nothing", "far too soft"],
)
def test_silence_offers_no_crop(sound: FloatArray) -> None:
    activity = Activity.of(sound)
    assert activity.silent
    assert len(activity.crops(1.0)) == 0
    assert len(activity.crops(10.0)) == 0
