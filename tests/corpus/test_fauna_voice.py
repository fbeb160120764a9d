"""The fauna's calls, and that an ear which knows nothing of the synthesis hears the traits in them.

The ear below works from the samples alone: envelope, short-time spectra, their centroids.
"""

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from naturelm.corpus.fauna import (
    LIFE_STAGES,
    SPECIES,
    CallType,
    Contour,
    Count,
    FaunaError,
    FaunaSpecies,
    LifeStage,
    Register,
    Tempo,
    Timbre,
    Traits,
    call_types,
    identifies,
    individual_voice,
    vocalise,
)

Array = npt.NDArray[np.float64]
RATE = 16000
KINDS = [(call, stage) for stage in LIFE_STAGES for call in call_types(stage)]
LONGEST = {"song": 6.0, "call": 3.5, "alarm call": 6.0, "flight call": 3.0, "begging call": 3.0}
few = settings(max_examples=40, deadline=None)
animals = (st.sampled_from(SPECIES), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(KINDS))


@few
@given(*animals)
def test_bounds(species: FaunaSpecies, individual: int, seed: int, kind: tuple[CallType, LifeStage]) -> None:
    call_type, life_stage = kind
    heard = vocalise(species, individual=individual, call_type=call_type, life_stage=life_stage, seed=seed)
    samples = heard.samples
    assert samples.dtype == np.float32
    assert 0.5 <= np.abs(samples).max() <= 0.9
    assert abs(float(samples.mean())) < 1e-4
    assert len(samples) / RATE <= LONGEST[call_type]
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    assert power[(hertz < 150) | (hertz > 7600)].sum() < 1e-5 * power.sum()
    times = [time for phrase in heard.phrases for time in phrase]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < len(samples) / RATE
    assert np.abs(samples[: int(0.75 * times[0] * RATE)]).max() < 0.02  # it starts from silence


@few
@given(*animals)
def test_the_same_arguments_give_the_same_samples(
    species: FaunaSpecies, individual: int, seed: int, kind: tuple[CallType, LifeStage]
) -> None:
    first, second, other = (
        vocalise(species, individual=individual, call_type=kind[0], life_stage=kind[1], seed=number).samples
        for number in (seed, seed, seed + 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("species", [SPECIES[0], SPECIES[1500], SPECIES[-1]])
def test_notes_start_and_end_without_a_click(species: FaunaSpecies) -> None:
    heard = vocalise(species, individual=1)
    loudest = np.abs(heard.samples).max()
    for time in (moment for note in heard.notes for moment in note):
        place = int(time * RATE)
        assert np.abs(heard.samples[place - 8 : place + 8]).max() < 0.1 * loudest


def test_calls_that_a_stage_does_not_have_and_negative_numbers_are_refused() -> None:
    with pytest.raises(FaunaError, match="nestling: has no call type 'song'; choose from begging call"):
        vocalise(SPECIES[0], individual=0, call_type="song", life_stage="nestling")
    with pytest.raises(FaunaError, match="adult: has no call type 'begging call'; choose from song, call, "):
        vocalise(SPECIES[0], individual=0, call_type="begging call")
    with pytest.raises(FaunaError, match="whole numbers from 0"):
        vocalise(SPECIES[0], individual=-1)
    with pytest.raises(FaunaError, match="whole numbers from 0"):
        vocalise(SPECIES[0], individual=1, seed=-1)


def test_only_songs_and_calls_of_the_grown_identify() -> None:
    assert {kind for kind in KINDS if identifies(*kind)} == {
        ("song", "adult"),
        ("call", "adult"),
        ("song", "juvenile"),
        ("call", "juvenile"),
    }


@few
@given(st.sampled_from(SPECIES), st.integers(0, 10**6), st.sampled_from(["adult", "juvenile"]))
def test_phrases_have_the_counted_notes_at_the_given_times(
    species: FaunaSpecies, individual: int, life_stage: LifeStage
) -> None:
    song = vocalise(species, individual=individual, call_type="song", life_stage=life_stage)
    assert len(song.phrases) in (2, 3)
    assert len(song.notes) == len(song.phrases) * species.traits.count.notes
    energy = np.cumsum(song.samples.astype(float) ** 2)
    inside = sum(energy[int(end * RATE)] - energy[int(start * RATE)] for start, end in song.notes)
    assert inside > 0.98 * energy[-1]


# The ear.


def notes_of(samples: Array) -> list[tuple[int, int]]:
    """Start and end of each note, in samples."""
    window = np.hanning(round(0.025 * RATE))
    loud = signal.fftconvolve(samples**2, window, mode="same")
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud > 0.015 * loud.max(), [0]))))
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end - start > 320]


def phrases_of(notes: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    phrases = [notes[:1]]
    for before, after in pairwise(notes):
        if after[0] - before[1] > 0.42 * RATE:
            phrases.append([])
        phrases[-1].append(after)
    return phrases


def fundamental(hertz: Array, power: Array) -> float:
    """Log2 Hz of the lowest broad peak of the mean spectrum."""
    grid = np.arange(np.log2(200), np.log2(6000), 1 / 48)
    mean = np.interp(2**grid, hertz, power.mean(axis=1)) * 2**grid
    smooth = np.convolve(mean, np.exp(-((np.arange(-24, 25) / 48 / 0.17) ** 2)), mode="same")
    peaks, _ = signal.find_peaks(smooth, height=0.15 * smooth.max())
    return float(grid[peaks[0]])


def middles(hertz: Array, power: Array, around: float, reach: float) -> Array:
    """Log2 Hz of the middle of the power near the fundamental, for each spectrum."""
    octaves = np.log2(np.maximum(hertz, 1.0))
    near = np.abs(octaves - around) < reach
    heard: Array = (octaves[near, None] * power[near]).sum(axis=0) / power[near].sum(axis=0)
    return heard


def contour_of(phrases: list[list[Array]]) -> Contour:
    """phrases: log2 Hz over each note of each."""
    tracks = np.array(
        [
            [np.interp(np.linspace(0, 1, 12), np.linspace(0, 1, len(t)), t) for t in phrase]
            for phrase in phrases
        ]
    ).mean(axis=0)
    between = tracks.mean(axis=1)
    mean = (tracks - between[:, None]).mean(axis=0)
    slope = float(mean[-4:].mean() - mean[:4].mean())
    bend = float(mean[4:8].mean() - (mean[:3].mean() + mean[-3:].mean()) / 2)
    size, contour = max(
        (abs(slope), Contour.RISING if slope > 0 else Contour.FALLING),
        (abs(bend), Contour.ARCHING if bend > 0 else Contour.DIPPING),
        (float(between[::2].mean() - between[1::2].mean()), Contour.ROCKING),
        key=lambda pair: pair[0],
    )
    return contour if size > 0.13 else Contour.LEVEL


def beating(samples: Array, notes: list[tuple[int, int]], around: float, low: float, high: float) -> float:
    """How much of the strength of notes comes and goes at a rate between two, Hz."""
    edges = [2 ** (around - 0.8), min(7800.0, 2 ** (around + 0.8))]
    sections = signal.butter(2, edges, "bandpass", fs=RATE, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sections, samples)))
    total = np.zeros(2049)
    for start, end in notes:
        part = envelope[start:end] * np.hanning(end - start)
        total += np.abs(np.fft.rfft(part / part.sum(), 4096)) ** 2
    rates = np.fft.rfftfreq(4096, 1 / RATE)
    return float(total[(rates > low) & (rates < high)].max() / total[0])


def wobble(tracks: list[list[Array]]) -> float:
    """Octaves by which pitch strays from a smooth curve."""
    return float(
        np.mean(
            [
                np.std(track - np.polyval(np.polyfit(np.arange(len(track)), track, 4), np.arange(len(track))))
                for phrase in tracks
                for track in phrase
            ]
        )
    )


def spread(hertz: Array, power: Array, track: Array, reach: float) -> float:
    """Standard deviation of power around the pitch, over the pitch."""
    near = (np.abs(np.log2(np.maximum(hertz, 1.0))[:, None] - track) < reach) * power
    squares = (near * (hertz[:, None] - 2**track) ** 2).sum(axis=0) / near.sum(axis=0)
    return float(np.median(np.sqrt(squares) / 2**track))


def timbre_of(pulsing: float, octave: float, wide: float, restless: float, pitch: float) -> Timbre:
    if pulsing > 0.09:
        return Timbre.BUZZ
    if octave > 0.03:
        return Timbre.HONK
    if wide > 0.065 + 15 / 2**pitch:
        return Timbre.RASP if restless > 0.011 else Timbre.CHIME
    return Timbre.TRILL if restless > 0.009 else Timbre.WHISTLE


def listen(samples: Array) -> tuple[Traits, float]:
    """The traits, and the pitch in octaves above 1 Hz."""
    notes = notes_of(samples)
    phrases = phrases_of(notes)
    length = min(len(phrase) for phrase in phrases)
    spans = [(phrase[-1][0] + phrase[-1][1] - sum(phrase[0])) / 2 / RATE for phrase in phrases]
    rate = (length - 1) / float(np.median(spans))
    hertz, seconds, values = signal.stft(samples, RATE, nperseg=320, noverlap=256, nfft=1024)
    power = np.abs(values) ** 2
    inside = [
        [np.abs(seconds * RATE - (start + end) / 2) < 0.4 * (end - start) for start, end in phrase[:length]]
        for phrase in phrases
    ]
    sounding = power[:, np.logical_or.reduce([note for phrase in inside for note in phrase])]
    base = fundamental(hertz, sounding)
    from_track = np.log2(np.maximum(hertz, 1.0))[:, None] - middles(hertz, sounding, base, 0.58)
    at, above = (float(sounding[np.abs(from_track - place) < 0.2].sum()) for place in (0.0, 1.0))
    reach = 0.58 if above > 0.03 * at else 0.8
    base = float(middles(hertz, sounding, base, reach).mean())
    tracks = [[middles(hertz, power[:, note], base, reach) for note in phrase] for phrase in inside]
    pitch = float(np.mean([track.mean() for phrase in tracks for track in phrase]))
    wide = spread(hertz, sounding, middles(hertz, sounding, base, reach), 0.5)
    heard = Traits(
        timbre=timbre_of(beating(samples, notes, base, 75, 105), above / at, wide, wobble(tracks), pitch),
        contour=contour_of(tracks),
        register=min(Register, key=lambda one: abs(np.log2(one.hertz) - pitch)),
        tempo=min(Tempo, key=lambda one: abs(np.log(one.rate / rate))),
        count=min(Count, key=lambda one: abs(one.notes - length)),
    )
    return heard, pitch


KINDS_THAT_IDENTIFY = [kind for kind in KINDS if identifies(*kind)]
TRAITS = ("timbre", "contour", "register", "tempo", "count")


@cache
def wrongly_heard(call_type: CallType, life_stage: LifeStage, draws: int = 100) -> Counter[str]:
    """How often each trait is heard wrongly, and under `any` how often at least one is."""
    rng = np.random.default_rng(20)
    wrong: Counter[str] = Counter()
    for index in rng.integers(0, len(SPECIES), draws):
        species, individual = SPECIES[index], int(rng.integers(10**6))
        call = vocalise(
            species, individual=individual, call_type=call_type, life_stage=life_stage, seed=draws
        )
        heard, _ = listen(call.samples.astype(np.float64))
        misheard = [name for name in TRAITS if getattr(heard, name) is not getattr(species.traits, name)]
        wrong.update([*misheard, "any"] if misheard else [])
    return wrong


@pytest.mark.parametrize("trait", [*TRAITS, "any"])
@pytest.mark.parametrize(("call_type", "life_stage"), KINDS_THAT_IDENTIFY)
def test_traits_are_heard_in_any_voice(call_type: CallType, life_stage: LifeStage, trait: str) -> None:
    assert wrongly_heard(call_type, life_stage)[trait] <= 5  # of 100


def test_an_individual_keeps_its_pitch_and_others_have_theirs() -> None:
    species = SPECIES[0]
    pitches = np.array(
        [
            [
                listen(vocalise(species, individual=one, seed=seed).samples.astype(np.float64))[1]
                for seed in range(4)
            ]
            for one in range(25)
        ]
    )
    assert pitches.std(axis=1).mean() < 0.3 * pitches.mean(axis=1).std()
    spread_of_all = pitches.max() - pitches.min()
    assert 0.08 < spread_of_all < 2 * np.log2(1.06) + 0.05  # well inside the 0.7 octaves of a register


def test_two_individuals_differ_in_voice_and_one_is_itself_at_any_time() -> None:
    one, other = (individual_voice(SPECIES[7], number) for number in (3, 4))
    assert one == individual_voice(SPECIES[7], 3)
    assert one != other
    assert one != individual_voice(SPECIES[8], 3)


@few
@given(st.sampled_from(SPECIES), st.integers(0, 10**6))
def test_an_animal_is_higher_the_younger_it_is(species: FaunaSpecies, individual: int) -> None:
    def hertz(call_type: CallType, life_stage: LifeStage) -> float:
        heard = vocalise(species, individual=individual, call_type=call_type, life_stage=life_stage)
        power = np.abs(np.fft.rfft(heard.samples)) ** 2
        within = np.fft.rfftfreq(len(heard.samples), 1 / RATE)
        return float((power * within).sum() / power.sum())

    if species.traits.timbre not in (Timbre.HONK, Timbre.RASP):  # harmonics and noise draw the mean
        assert hertz("call", "adult") < hertz("begging call", "nestling")
        assert hertz("call", "adult") < hertz("call", "juvenile")


@few
@given(st.sampled_from(SPECIES), st.integers(0, 10**6), st.sampled_from(["adult", "juvenile"]))
def test_call_types_differ_in_their_notes(
    species: FaunaSpecies, individual: int, life_stage: LifeStage
) -> None:
    call, alarm, flight = (
        vocalise(species, individual=individual, call_type=kind, life_stage=life_stage)
        for kind in ("call", "alarm call", "flight call")
    )
    notes = species.traits.count.notes
    assert (len(call.notes), len(alarm.notes), len(flight.notes)) == (notes, 3 * notes, 2)
    assert (len(call.phrases), len(alarm.phrases), len(flight.phrases)) == (1, 3, 2)
    lasting = [vocalisation.phrases[0][1] - vocalisation.phrases[0][0] for vocalisation in (call, alarm)]
    assert 1.4 < lasting[0] / lasting[1] < 2.0
