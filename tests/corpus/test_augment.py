from dataclasses import replace

import numpy as np
import pytest
from entries import RATE, band_level, tone

from naturelm.corpus.augment import (
    ALL_CHANGES,
    COLOURING,
    AugmentOptions,
    Change,
    active_level_db,
    change,
    faded,
    gained,
)
from naturelm.corpus.limits import OptionError

ALWAYS = AugmentOptions(probability=1.0)


def changed_by(kind: Change, sound: np.ndarray, options: AugmentOptions) -> tuple[np.ndarray, str]:
    """The sound after one kind of change, drawn until it is made."""
    for seed in range(100):
        changed, made = change(sound, frozenset({kind}), options, np.random.default_rng(seed))
        if made:
            return changed, made[0]
    raise AssertionError(f"{kind} is never made")


@pytest.mark.parametrize("kind", sorted(ALL_CHANGES))
def test_the_same_seed_makes_the_same_samples_and_says_what_it_did(kind: Change) -> None:
    sound = tone(1000, 1.0, before=0.3, after=0.3)
    once, said = changed_by(kind, sound, ALWAYS)
    again, _ = changed_by(kind, sound, ALWAYS)
    assert once.dtype == np.float32
    assert np.array_equal(once, again)
    assert not np.array_equal(once[: len(sound)], sound[: len(once)])
    assert said.startswith(kind)


def test_changes_depend_on_no_other_random_numbers() -> None:
    sound = tone(1000, 1.0)
    np.random.seed(1)
    once, made = change(sound, ALL_CHANGES, ALWAYS, np.random.default_rng(3))
    np.random.seed(2)
    again, _ = change(sound, ALL_CHANGES, ALWAYS, np.random.default_rng(3))
    assert made
    assert np.array_equal(once, again)


def test_speed_moves_pitch_and_tempo_together_and_stretch_tempo_alone() -> None:
    sound = tone(1000, 2.0)
    faster, _ = changed_by("speed", sound, replace(ALWAYS, speed=(1.25, 1.25)))
    assert len(faster) == pytest.approx(len(sound) / 1.25, rel=0.01)
    assert band_level(faster, 1250) > 10 * band_level(faster, 1000)
    stretched, _ = changed_by("stretch", sound, replace(ALWAYS, stretch=(0.8, 0.8)))
    assert len(stretched) == pytest.approx(len(sound) / 0.8, rel=0.02)
    assert band_level(stretched, 1000) > 10 * band_level(stretched, 800)


def test_filters_take_what_lies_beyond_their_frequency() -> None:
    sound = tone(1000, 1.0) + tone(6000, 1.0) / 4
    lower, _ = changed_by("low-pass", sound, replace(ALWAYS, low_pass_hz=(2500, 2500)))
    assert band_level(lower, 6000) < band_level(sound, 6000) / 3
    assert band_level(lower, 1000) > band_level(sound, 1000) / 1.3


@pytest.mark.parametrize(("kind", "hertz"), [("low-pass", 7000.0), ("high-pass", 100.0)])
@pytest.mark.parametrize("noise_db", [-80.0, -35.0, -22.0])
def test_a_filter_that_would_take_the_call_away_is_left_out(
    kind: Change, hertz: float, noise_db: float
) -> None:
    call = tone(hertz, 0.5, before=1.5, after=1.5)
    rng = np.random.default_rng(0)
    other = np.fft.rfft(rng.standard_normal(len(call)))
    frequency = np.fft.rfftfreq(len(call), 1 / RATE)
    other[(frequency < 600) | (frequency > 2000)] = 0  # noise that passes either filter
    bed = np.fft.irfft(other, len(call))
    sound = (call + bed / bed.std() * 10 ** (noise_db / 20)).astype(np.float32)
    options = replace(ALWAYS, low_pass_hz=(2500, 2500), high_pass_hz=(500, 500))
    for seed in range(20):
        same, made = change(sound, frozenset({kind}), options, np.random.default_rng(seed))
        assert made == ()
        assert np.array_equal(same, sound)


def test_several_filters_together_leave_the_call_within_six_decibels() -> None:
    sound = tone(2000, 0.5, before=0.5, after=0.5)
    options = replace(ALWAYS, low_pass_hz=(1700, 1700), high_pass_hz=(2300, 2300), peak_db=(-6, -6))
    several = 0
    for seed in range(60):
        changed, made = change(sound, COLOURING, options, np.random.default_rng(seed))
        several += len(made) > 1
        assert active_level_db(changed) > active_level_db(sound) - 7
    assert several


def test_an_echo_goes_on_after_the_sound_and_leaves_it_where_it_was() -> None:
    sound = tone(1000, 0.5)
    echoed, _ = changed_by("reverberation", sound, replace(ALWAYS, decay_s=(0.5, 0.5)))
    assert len(echoed) == len(sound) + RATE // 4
    tail = echoed[len(sound) :]
    assert -40 < active_level_db(tail) - active_level_db(sound) < -6


def test_nothing_is_changed_where_it_is_not_allowed_or_not_drawn() -> None:
    sound = tone(1000, 0.5)
    for allowed, options in ((frozenset[Change](), ALWAYS), (ALL_CHANGES, AugmentOptions(probability=0.0))):
        for seed in range(20):
            same, made = change(sound, allowed, options, np.random.default_rng(seed))
            assert made == () and same is sound


def test_only_allowed_changes_are_made_and_each_of_them_is() -> None:
    made = {
        text.split()[0]
        for seed in range(60)
        for text in change(tone(1000, 0.3), COLOURING, ALWAYS, np.random.default_rng(seed))[1]
    }
    assert made == set(COLOURING)


def test_level_gain_and_fades() -> None:
    sound = tone(1000, 1.0, before=1.0)
    assert active_level_db(sound) == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.5)
    assert active_level_db(gained(sound, -6)) == pytest.approx(active_level_db(sound) - 6, abs=0.6)
    assert active_level_db(np.zeros(RATE, np.float32)) == -100
    soft = faded(np.ones(RATE, np.float32))
    assert soft[0] == soft[-1] == 0
    assert (soft[200:-200] == 1).all()
    assert len(faded(np.ones(1, np.float32))) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("probability", 1.5),
        ("noise_probability", -0.1),
        ("probability", float("nan")),
        ("snr_db", (5.0, -5.0)),
        ("snr_db", (0.0, float("inf"))),
        ("speed", (0.0, 1.0)),
        ("stretch", (1.2, 0.9)),
        ("low_pass_hz", (2000.0, 9000.0)),
        ("high_pass_hz", (-1.0, 200.0)),
        ("peak_db", (3.0, float("nan"))),
        ("decay_s", (0.0, 1.0)),
        ("level_db", (-10.0, 0.0)),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"^{key}: must be"):
        AugmentOptions(**{key: value})  # type: ignore[arg-type]
