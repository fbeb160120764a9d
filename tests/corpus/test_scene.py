from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from entries import RATE, band_level, entry, first_heard, invented, noise, species, stored, tone

from naturelm.corpus.activity import Activity
from naturelm.corpus.audibility import STANDS_OUT_DB, headroom_db
from naturelm.corpus.augment import ALL_CHANGES, AugmentOptions, active_level_db
from naturelm.corpus.library import Entry
from naturelm.corpus.limits import OptionError
from naturelm.corpus.scene import Placed, Scene, SceneOptions, UnreadableRecording, UnusablePair, compose

PLAIN = AugmentOptions(probability=0.0)
FOUR_SECONDS = SceneOptions(seconds=4.0, augment=PLAIN)
Heard = Callable[..., Entry]


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    """Makes entries of one tone each."""

    def make(hertz: float, seconds: float = 0.4, *, before: float = 0.0, after: float = 0.0) -> Entry:
        name = f"{hertz:g}-{seconds:g}-{before:g}-{after:g}"
        samples = tone(hertz, seconds, before=before, after=after)
        return entry(name, stored(tmp_path / f"{name}.wav", samples), (species(int(hertz), 0, 0),))

    return make


def hertz_of(part: Placed) -> float:
    return float(part.entry.recording.id.split("-")[0])


@pytest.mark.parametrize("apart", [False, True])
def test_the_placed_times_hold_each_sound(heard: Heard, apart: bool) -> None:
    focal = [heard(700), heard(1500, 0.5), heard(3000, 0.6)]
    for seed in range(12):
        scene = compose(focal, None, FOUR_SECONDS, np.random.default_rng(seed), apart=apart)
        assert [hertz_of(part) for part in scene.placed] == [700, 1500, 3000]
        for part in scene.placed:
            first, last = round(part.start * RATE), round(part.end * RATE)
            whole = band_level(scene.samples, hertz_of(part)) ** 2 * len(scene.samples)
            inside = band_level(scene.samples[first:last], hertz_of(part)) ** 2 * (last - first)
            assert inside > 0.95 * whole
            assert 0 <= part.start <= part.onset < part.end <= len(scene.samples) / RATE + 1e-6


def test_the_onset_is_when_the_call_is_first_heard(heard: Heard) -> None:
    focal = [heard(700, before=1.2), heard(3000, before=0.1, after=0.8)]
    for seed in range(12):
        scene = compose(focal, None, FOUR_SECONDS, np.random.default_rng(seed))
        for part in scene.placed:
            assert part.onset == pytest.approx(first_heard(scene.samples, hertz_of(part)), abs=0.06)


def test_a_long_recording_is_cropped_around_its_call(heard: Heard) -> None:
    long = heard(1500, 0.5, before=11.0, after=9.0)
    for seed in range(12):
        scene = compose([long], None, FOUR_SECONDS, np.random.default_rng(seed), allowed=ALL_CHANGES)
        (part,) = scene.placed
        assert part.crop <= 11.5 and part.crop + 4.0 >= 11.0
        assert len(scene.samples) == 4 * RATE
        assert band_level(scene.samples, 1500) > 0.5 * band_level(scene.samples, 4000)
        assert part.onset == pytest.approx(max(0.0, 11.0 - part.crop), abs=0.06)


def test_a_slower_tempo_does_not_push_the_call_out_of_the_clip(heard: Heard) -> None:
    late = heard(1500, 0.3, before=3.6, after=0.1)
    slow = SceneOptions(4.0, 1.0, AugmentOptions(probability=1.0, speed=(0.7, 0.7), stretch=(0.7, 0.7)))
    slowed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scene = compose([late], None, slow, rng, allowed=frozenset({"speed", "stretch"}))
        (part,) = scene.placed
        slowed += bool(part.changes)
        assert len(scene.samples) <= 4 * RATE
        # Softer than its neighbourhood by far when only the noise around the call is left.
        assert Activity.of(scene.samples).loudest_db > -25
        levels = Activity.of(scene.samples).levels
        assert levels.max() - np.median(levels) > 30
        assert part.crop < 3.9
    assert slowed > 5


def test_an_echo_does_not_push_the_beginning_out_of_the_clip(heard: Heard) -> None:
    speech = heard(500, 3.95)
    echoing = SceneOptions(4.0, 1.0, AugmentOptions(probability=1.0, decay_s=(0.6, 0.6)))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = compose([speech], None, echoing, rng, allowed=frozenset({"reverberation"}))
        assert scene.placed[0].crop == 0
        assert len(scene.samples) <= 4 * RATE


@pytest.mark.parametrize("snr_db", [-4.0, 0.0, 6.0, 20.0])
def test_noise_is_mixed_at_the_stated_ratio(heard: Heard, snr_db: float) -> None:
    """The call alone, drawn by the same seed, is the same but for its gain: what is left is the noise."""
    options = SceneOptions(4.0, 1.0, AugmentOptions(probability=0.0, snr_db=(snr_db, snr_db)))
    focal = [heard(700, 1.0, before=0.5, after=0.5), heard(2500, 0.7)]
    for seed in range(4):
        clean = compose(focal, None, options, np.random.default_rng(seed)).samples
        scene = compose(focal, noise("hiss", seed), options, np.random.default_rng(seed))
        assert scene.snr_db == pytest.approx(snr_db)
        assert scene.entries == (*focal, scene.noise)
        gain = float(scene.samples @ clean) / float(clean @ clean)
        background = scene.samples - gain * clean
        measured = active_level_db(gain * clean) - active_level_db(background)
        assert measured == pytest.approx(snr_db, abs=1.0)


def test_noise_is_never_so_loud_that_a_labelled_sound_is_lost_in_it(tmp_path: Path) -> None:
    """A rasp as broad as the noise is asked for at -10 dB; a soft companion of a loud tone counts as well."""
    rasp = (0.2 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    focal = [entry("rasp", stored(tmp_path / "rasp.wav", rasp), (species(0, 0, 0),))]
    options = SceneOptions(4.0, 1.0, AugmentOptions(probability=0.0, snr_db=(-10.0, -10.0)))
    for seed in range(6):
        clean = compose(focal, None, options, np.random.default_rng(seed)).samples
        scene = compose(focal, noise("hiss", seed), options, np.random.default_rng(seed))
        gain = float(scene.samples @ clean) / float(clean @ clean)
        background = (scene.samples - gain * clean).astype(np.float32)
        assert scene.snr_db is not None and scene.snr_db > -5
        assert headroom_db(gain * clean, background) == pytest.approx(STANDS_OUT_DB, abs=1.0)


def test_a_short_background_is_repeated_without_a_gap(heard: Heard, tmp_path: Path) -> None:
    hiss = (0.1 * np.random.default_rng(0).standard_normal(RATE // 2)).astype(np.float32)
    short = entry("short", stored(tmp_path / "short.wav", hiss), kind="noise", labels=("hiss",))
    loud = SceneOptions(4.0, 4.0, AugmentOptions(probability=0.0, snr_db=(0.0, 0.0)))
    scene = compose([heard(700)], short, loud, np.random.default_rng(0))
    levels = Activity.of(scene.samples).levels.astype(int)
    assert len(scene.samples) == 4 * RATE
    assert levels[3:].min() > levels.max() - 25


def test_clips_are_below_full_scale_at_a_drawn_peak_and_no_longer_than_asked() -> None:
    options = SceneOptions(3.0, 1.0, AugmentOptions(probability=1.0, level_db=(-12.0, -0.1)))
    focal = [invented(5), invented(700, call_type="song"), invented(1500)]
    peaks = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        chosen = focal[: 1 + seed % 3]
        background = noise("rain", seed) if seed % 2 else None
        scene = compose(chosen, background, options, rng, allowed=ALL_CHANGES, apart=seed % 5 == 0)
        assert scene.samples.dtype == np.float32
        assert RATE <= len(scene.samples) <= 3 * RATE
        peaks.append(20 * np.log10(float(np.abs(scene.samples).max())))
    assert max(peaks) < 0
    assert min(peaks) >= -12.01 and max(peaks) - min(peaks) > 6


def test_a_very_short_sound_gets_quiet_around_it(heard: Heard) -> None:
    scene = compose([heard(900, 0.2)], None, SceneOptions(4.0, 2.0, PLAIN), np.random.default_rng(1))
    assert len(scene.samples) == 2 * RATE
    assert Activity.of(scene.samples).active.mean() < 0.2


def test_sounds_apart_have_their_own_time_where_the_clip_is_long_enough(heard: Heard) -> None:
    focal = [heard(hertz, 0.8) for hertz in (500, 1000, 2000, 4000)]
    for seed in range(20):
        scene = compose(focal, None, FOUR_SECONDS, np.random.default_rng(seed), apart=True)
        parts = sorted(scene.placed, key=lambda part: part.start)
        for sooner, later in pairwise(parts):
            assert later.start >= sooner.end - 1e-3


def test_sounds_apart_are_spread_over_a_clip_that_is_too_short_for_them(heard: Heard) -> None:
    focal = [heard(hertz, seconds) for hertz, seconds in ((500, 0.3), (1000, 2.0), (2000, 2.0), (4000, 2.0))]
    for seed in range(20):
        scene = compose(focal, None, FOUR_SECONDS, np.random.default_rng(seed), apart=True)
        assert len(scene.samples) == 4 * RATE
        starts = [part.start for part in scene.placed]
        assert starts == sorted(starts)
        assert min(np.diff(starts)) > 0.1
        assert scene.placed[-1].end == pytest.approx(4.0, abs=1e-3)
        for part in scene.placed:
            assert band_level(scene.samples, hertz_of(part)) > 0.01


def test_sounds_not_apart_may_overlap(heard: Heard) -> None:
    focal = [heard(500, 1.0), heard(2000, 1.0)]
    overlaps = 0
    for seed in range(20):
        one, other = compose(focal, None, FOUR_SECONDS, np.random.default_rng(seed)).placed
        overlaps += one.start < other.end and other.start < one.end
    assert overlaps > 10


def test_the_same_seed_makes_the_same_clip(heard: Heard) -> None:
    focal = [heard(500, 1.0), invented(44)]

    def made(seed: int) -> Scene:
        return compose(focal, noise("wind"), FOUR_SECONDS, np.random.default_rng(seed), allowed=ALL_CHANGES)

    assert np.array_equal(made(7).samples, made(7).samples)
    assert made(7).placed == made(7).placed
    assert not np.array_equal(made(7).samples, made(8).samples[: len(made(7).samples)])


def test_noise_alone_and_silence_are_clips_of_nothing() -> None:
    for seed in range(10):
        alone = compose([], noise("a stream"), FOUR_SECONDS, np.random.default_rng(seed))
        silent = compose([], None, FOUR_SECONDS, np.random.default_rng(seed))
        assert alone.placed == silent.placed == ()
        assert alone.snr_db is None and alone.noise is not None
        assert 4 * RATE / 3 - 1 <= len(alone.samples) <= 4 * RATE
        assert active_level_db(alone.samples) > -50
        assert silent.entries == () and not silent.samples.any()


def test_a_recording_without_sound_makes_no_pair(tmp_path: Path) -> None:
    soft = (1e-5 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    silent = entry("silent", stored(tmp_path / "silent.wav", soft), (species(0, 0, 0),))
    with pytest.raises(UnusablePair, match="own:silent"):
        compose([silent], None, FOUR_SECONDS, np.random.default_rng(0))


def test_a_recording_whose_file_has_since_gone_silent_makes_no_pair(heard: Heard) -> None:
    changed = heard(800, 1.0)
    stored(changed.recording.sound.path, np.zeros(RATE, np.float32))  # type: ignore[attr-defined]
    with pytest.raises(UnusablePair, match="silent"):
        compose([changed], None, FOUR_SECONDS, np.random.default_rng(0))


def test_a_recording_that_is_gone_is_named(heard: Heard) -> None:
    gone = heard(800, 1.0)
    gone.recording.sound.path.unlink()  # type: ignore[attr-defined]
    with pytest.raises(UnreadableRecording, match=r"800-1-0-0\.wav") as raised:
        compose([gone], None, FOUR_SECONDS, np.random.default_rng(0))
    assert raised.value.entry == gone


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("seconds", {"seconds": 0.0}),
        ("seconds", {"seconds": float("inf")}),
        ("seconds", {"seconds": float("nan")}),
        ("shortest", {"shortest": -1.0}),
        ("shortest", {"seconds": 5.0, "shortest": 6.0}),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(key: str, values: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=f"^{key}: must be"):
        SceneOptions(**values)  # type: ignore[arg-type]
