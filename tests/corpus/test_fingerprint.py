from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.fingerprint import (
    HOP,
    Duplicate,
    DuplicateFinder,
    Fingerprint,
    FloatArray,
    fingerprint,
    overlap,
)
from naturelm.errors import AudioError

RATE = 44100


def noise(seed: int, seconds: float, rate: int = SAMPLE_RATE) -> FloatArray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def chirps(seed: int, seconds: float = 8, rate: int = SAMPLE_RATE, level: float = 0.3) -> FloatArray:
    """Glides of random pitch, length and distance, in digital silence."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * rate))
    at = 0
    while at < len(sound):
        time = np.arange(round(rng.uniform(0.05, 0.3) * rate)) / rate
        low, high = rng.uniform(600, 6500, 2)
        note = np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * time[-1])))
        note = (level * note * np.hanning(len(note)))[: len(sound) - at]
        sound[at : at + len(note)] += note
        at += len(note) + round(rng.uniform(0.02, 0.2) * rate)
    return sound.astype(np.float32)


def song(seed: int, seconds: float = 8, jitter: float = 1.0) -> FloatArray:
    """One song of three syllables over and over; times jitter by 15 ms, pitches by 3 %."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    start, turn = rng.uniform(0, 0.5), 0
    while start < seconds:
        pitch, glide, length = ((2000, 1500, 0.12), (3500, -800, 0.08), (1500, 900, 0.16))[turn % 3]
        time = np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
        phase = (1 + jitter * 0.03 * rng.standard_normal()) * (pitch * time + glide * time**2 / (2 * length))
        at = round(start * SAMPLE_RATE)
        note = (0.3 * np.sin(2 * np.pi * phase) * np.hanning(len(time)))[: len(sound) - at]
        sound[at : at + len(note)] += note
        start += length + 0.08 + abs(jitter * 0.015 * rng.standard_normal())
        turn += 1
    return sound.astype(np.float32)


def written_and_read(
    path: Path, sound: FloatArray, rate: int = RATE, subtype: str | None = None
) -> FloatArray:
    sf.write(path, sound, rate, subtype=subtype)
    return read_audio(path)


def shared(first: FloatArray, second: FloatArray) -> float:
    """Seconds that two sounds share, 0 if none."""
    found = overlap(fingerprint(first), fingerprint(second))
    return 0.0 if found is None else found.length


@pytest.mark.parametrize("make", [chirps, noise])
@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
def test_a_copy_that_was_encoded_and_resampled_is_found(make, suffix: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sound = make(1, 6, RATE)
    original = written_and_read(tmp_path / "a.wav", sound, subtype="FLOAT")
    assert shared(original, written_and_read(tmp_path / f"b.{suffix}", 0.2 * sound)) > 5


@pytest.mark.parametrize("make", [chirps, noise])
def test_a_copy_with_noise_at_20_db_is_found(make) -> None:  # type: ignore[no-untyped-def]
    sound = make(2, 6)
    added = noise(3, 6)
    added *= 0.1 * np.sqrt(np.mean(sound**2) / np.mean(added**2))
    assert shared(sound, sound + added) > 5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5 * SAMPLE_RATE), st.sampled_from([chirps, noise]), st.floats(0.05, 2))
def test_an_excerpt_from_anywhere_is_found_where_it_was_cut(begin: int, make, gain: float) -> None:  # type: ignore[no-untyped-def]
    sound = make(4, 8)
    excerpt = gain * sound[begin : begin + 3 * SAMPLE_RATE]
    found = overlap(fingerprint(sound), fingerprint(excerpt))
    assert found is not None
    assert found.offset == pytest.approx(begin / SAMPLE_RATE, abs=HOP)
    assert found.start >= found.offset - HOP
    assert found.start + found.length <= found.offset + 3 + HOP
    back = overlap(fingerprint(excerpt), fingerprint(sound))
    assert back is not None
    assert back.offset == pytest.approx(-found.offset, abs=HOP)


def test_sound_set_between_other_sounds_is_found() -> None:
    sound = chirps(5, 4)
    longer = np.concatenate([chirps(6, 3), sound, chirps(7, 3)])
    found = overlap(fingerprint(longer), fingerprint(sound))
    assert found is not None
    assert found.offset == pytest.approx(3, abs=HOP)


def test_different_sounds_of_one_kind_are_not_duplicates() -> None:
    for make in (noise, chirps, song):
        prints = [fingerprint(make(seed, 8)) for seed in range(8)]
        assert all(print_.comparable for print_ in prints)
        found = [overlap(a, b) for i, a in enumerate(prints) for b in prints[:i]]
        assert found == [None] * len(found), make.__name__


def test_equal_tones_over_different_noise_are_not_duplicates() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 1234 * np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE)
    sounds = [(tone + 0.01 * noise(seed, 6)).astype(np.float32) for seed in range(4)]
    prints = [fingerprint(sound) for sound in sounds]
    assert [overlap(a, b) for i, a in enumerate(prints) for b in prints[:i]] == [None] * 6


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(5 * SAMPLE_RATE, np.float32),
        np.full(5 * SAMPLE_RATE, 0.5, np.float32),
        np.sin(np.arange(5 * SAMPLE_RATE), dtype=np.float32),
        1e-6 * noise(1, 5),
        noise(1, 0.5),
        np.zeros(0, np.float32),
    ],
    ids=["silence", "constant", "tone", "dither", "short", "empty"],
)
def test_what_tells_nothing_is_never_a_duplicate(sound: FloatArray) -> None:
    empty = fingerprint(sound)
    assert not empty.comparable
    assert overlap(empty, empty) is None
    finder = DuplicateFinder()
    assert not finder.add("a", empty)
    assert not finder.add("b", empty)
    assert list(finder.duplicates()) == []


def test_silence_between_sounds_is_not_audible() -> None:
    sound = np.concatenate([noise(1, 2), np.zeros(3 * SAMPLE_RATE, np.float32), noise(2, 2)])
    audible = fingerprint(sound).audible
    assert audible[: round(1.8 / HOP)].mean() > 0.9
    assert not audible[round(2.1 / HOP) : round(4.7 / HOP)].any()


@pytest.mark.parametrize("bad", [np.zeros((2, 16000), np.float32), np.full(16000, np.nan, np.float32)])
def test_bad_samples_are_refused(bad: FloatArray) -> None:
    with pytest.raises(AudioError, match=r"one channel|NaN"):
        fingerprint(bad)


def pairs(found: list[Duplicate]) -> set[tuple[str, str]]:
    assert len({(pair.first, pair.second) for pair in found}) == len(found)
    return {(pair.first, pair.second) for pair in found}


def archive() -> dict[str, Fingerprint]:
    sounds = {f"{make.__name__}{seed}": make(seed, 8) for make in (noise, chirps, song) for seed in range(10)}
    sounds["excerpt of noise3"] = sounds["noise3"][33333:88888]
    sounds["excerpt of chirps7"] = 0.4 * sounds["chirps7"][44444:99999]
    sounds["copy of song2"] = sounds["song2"].copy()
    return {key: fingerprint(sound) for key, sound in sounds.items()}


PLANTED = {("noise3", "excerpt of noise3"), ("chirps7", "excerpt of chirps7"), ("song2", "copy of song2")}


def test_a_finder_gives_each_pair_of_duplicates_once_and_no_other() -> None:
    finder = DuplicateFinder()
    for key, print_ in archive().items():
        assert finder.add(key, print_)
    found = list(finder.duplicates())
    assert pairs(found) == PLANTED
    (excerpt,) = (pair for pair in found if pair.second == "excerpt of noise3")
    assert excerpt.overlap.offset == pytest.approx(33333 / SAMPLE_RATE, abs=HOP)


def test_between_two_sets_only_pairs_across_them_are_given() -> None:
    prints = archive()
    train, test = DuplicateFinder(), DuplicateFinder()
    for key, print_ in prints.items():
        (test if " of " in key else train).add(key, print_)
    train.add("second name of noise3", prints["noise3"])
    test.add("second name of excerpt", prints["excerpt of noise3"])
    expected = PLANTED | {
        ("second name of noise3", "excerpt of noise3"),
        ("noise3", "second name of excerpt"),
        ("second name of noise3", "second name of excerpt"),
    }
    assert pairs(list(train.duplicates_with(test))) == expected
    assert pairs(list(test.duplicates_with(train))) == {(second, first) for first, second in expected}


def test_all_of_very_many_copies_are_joined() -> None:
    sound = chirps(1, 6)
    finder = DuplicateFinder()
    for number in range(80):
        finder.add(f"cut {number}", fingerprint(sound[number * 37 :]))
        finder.add(f"same {number}", fingerprint(sound))
    joined = {"cut 0"}
    found = pairs(list(finder.duplicates()))
    while more := {key for pair in found if joined & set(pair) for key in pair} - joined:
        joined |= more
    assert len(joined) == 160


def test_an_empty_finder_has_no_duplicates() -> None:
    full = DuplicateFinder()
    full.add("a", fingerprint(noise(1, 3)))
    empty = DuplicateFinder()
    assert list(empty.duplicates()) == []
    assert list(empty.duplicates_with(full)) == list(full.duplicates_with(empty)) == []
