import numpy as np
import pytest
import scipy.signal
from entries import RATE, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.audibility import band_levels_db, headroom_db
from naturelm.corpus.recordings import FloatArray


def hiss(seconds: float = 2.0, level: float = 0.1, seed: int = 0) -> FloatArray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * level
    return samples.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(hertz=st.floats(130, 7000), softer=st.floats(1, 40))
def test_headroom_follows_the_level(hertz: float, softer: float) -> None:
    call, noise = tone(hertz, 1.0), hiss()
    quiet = (call * 10 ** (-softer / 20)).astype(np.float32)
    assert headroom_db(quiet, noise) == pytest.approx(headroom_db(call, noise) - softer, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(hertz=st.floats(200, 6000))
def test_a_tone_is_heard_in_noise_in_which_a_rasp_as_loud_is_not(hertz: float) -> None:
    call = tone(hertz, 2.0)
    noise = hiss(level=float(np.sqrt(np.mean(call**2))))
    rasp = hiss(level=float(np.sqrt(np.mean(call**2))), seed=1)
    assert headroom_db(call, noise) > 5
    assert headroom_db(rasp, noise) < 4


def test_a_call_is_measured_where_it_is_loudest() -> None:
    call = np.zeros(2 * RATE, np.float32)
    call[RATE : RATE + RATE // 2] = tone(1000, 0.5)[: RATE // 2]
    assert headroom_db(call, hiss()) == pytest.approx(headroom_db(tone(1000, 0.5), hiss()), abs=1.5)


@pytest.mark.parametrize("samples", [0, 1, 500, 1024, 1500])
def test_sounds_shorter_than_a_frame_have_levels(samples: int) -> None:
    assert np.isfinite(band_levels_db(np.ones(samples, np.float32))).all()


def test_a_faint_hiss_above_the_noise_does_not_make_a_call_heard() -> None:
    call = (tone(800, 2.0) + 0.1 * tone(6000, 2.0)).astype(np.float32)
    sections = scipy.signal.butter(4, (300, 3000), "bandpass", fs=RATE, output="sos")
    stream = scipy.signal.sosfilt(sections, hiss(level=3.0)).astype(np.float32)
    assert headroom_db(tone(6000, 2.0), stream) > 20
    assert headroom_db(call, stream) < 3
