"""Facts, counts, voices, notes, places, captions, and an archive's own questions."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from entries import RATE, entry, library, noise, species, stored, tone, voice
from zoo import PLAIN, drafts, fitting, names_heard, studio, zoo

from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.recordings import FileSound
from naturelm.corpus.scene import SceneOptions, UnusablePair
from naturelm.corpus.tasks import Task
from naturelm.corpus.tasks.captions import Caption
from naturelm.corpus.tasks.detection import Detection
from naturelm.corpus.tasks.facts import CALL_TYPE, COUNT, LIFE_STAGE, ONE_OR_MORE, SEX, Fact
from naturelm.corpus.tasks.passthrough import Own
from naturelm.corpus.tasks.sounds import (
    Environment,
    Instrument,
    NotePitch,
    SpeakerCount,
    SpeakerPitch,
    SpeakerSex,
    Transcript,
    note_name,
    voice_pitch_hz,
)
from naturelm.corpus.taxonomy import Taxon

BIRD = species(0, 0, 0)


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def sound(tmp_path: Path) -> FileSound:
    return stored(tmp_path / "tone.wav", tone(1000, 0.4))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("task", "field", "said", "answer"),
    [
        (LIFE_STAGE, "life_stage", "Subadult", "juvenile"),
        (LIFE_STAGE, "life_stage", " chick ", "nestling"),
        (LIFE_STAGE, "life_stage", "unsure", None),
        (LIFE_STAGE, "life_stage", "", None),
        (CALL_TYPE, "call_types", ("Dawn song",), "song"),
        (CALL_TYPE, "call_types", ("subsong", "song"), "song"),
        (CALL_TYPE, "call_types", ("song", "alarm"), None),
        (CALL_TYPE, "call_types", ("song", "?"), None),
        (CALL_TYPE, "call_types", (), None),
        (SEX, "sex", "M", "male"),
        (SEX, "sex", "uncertain", None),
    ],
)
def test_facts_are_asked_in_our_words_where_the_archive_is_clear(
    tmp_path: Path, sound: FileSound, task: Fact, field: str, said: Any, answer: str | None
) -> None:
    one = entry("a", sound, (BIRD,), **{field: said})
    assert task.fits(one) == (answer is not None)
    if answer:
        draft = task.make(one, studio(library(tmp_path, [one])), rng())
        assert (draft.output, draft.labels) == (answer, (answer,))


def test_a_fact_is_asked_about_one_focal_species_whoever_calls_behind_it(sound: FileSound) -> None:
    pair = entry("a", sound, (BIRD, species(1, 0, 0)), life_stage="adult", sex="male", recordist="me")
    known: dict[str, Any] = {"life_stage": "adult", "sex": "male", "recordist": "me"}
    behind = entry("b", sound, (BIRD,), background=(species(1, 0, 0),), **known)
    for task in (LIFE_STAGE, SEX, COUNT, ONE_OR_MORE):
        assert not task.fits(pair)
    assert LIFE_STAGE.fits(behind) and SEX.fits(behind)
    assert not COUNT.fits(behind) and not ONE_OR_MORE.fits(behind)


@pytest.mark.parametrize("task", [COUNT, ONE_OR_MORE], ids=["count", "one-or-more"])
def test_as_many_individuals_are_counted_as_are_heard(task: Task, animals: Library) -> None:
    for one, draft in drafts(task, fitting(task, animals), studio(animals), 80):
        placed = [part.entry for part in draft.scene.placed]
        individuals = {other.recording.group or other.recording.recordist for other in placed}
        assert len(individuals) == len(placed) == draft.details["individuals"]
        assert {other.taxa for other in placed} == {one.taxa}
        exact = str(len(placed))
        assert draft.output == (exact if task is COUNT else ("One" if len(placed) == 1 else "More"))


def test_every_count_comes_up_about_as_often(animals: Library) -> None:
    made = drafts(COUNT, fitting(COUNT, animals, realm="invented"), studio(animals), 240)
    counts = Counter(draft.output for _, draft in made)
    assert set(counts) == set("1234") and min(counts.values()) > 35


def test_one_and_more_are_each_about_half_though_many_species_were_recorded_once(
    tmp_path: Path, sound: FileSound
) -> None:
    once = [entry(f"once-{number}", sound, (species(number, 0, 0),), recordist="a") for number in range(30)]
    thrice = [
        entry(f"{who}-{number}", sound, (species(number, 1, 0),), recordist=who)
        for number in range(4)
        for who in "abc"
    ]
    rows = library(tmp_path, [*once, *thrice])
    counts = Counter(draft.output for _, draft in drafts(ONE_OR_MORE, list(rows), studio(rows), 250))
    assert 95 < counts["One"] < 155
    assert counts["More"] == 250 - counts["One"]
    with pytest.raises(UnusablePair, match="no other individual"):
        COUNT.make(once[0], studio(rows), rng())


def test_several_takes_of_one_individual_are_not_several_individuals(
    tmp_path: Path, sound: FileSound
) -> None:
    takes = [
        entry(f"take-{number}", sound, (BIRD,), group="ring 7", recordist=str(number)) for number in range(5)
    ]
    rows = library(tmp_path, takes)
    for task in (COUNT, ONE_OR_MORE):
        with pytest.raises(UnusablePair):
            task.make(rows[0], studio(rows), rng())


def test_what_may_be_several_animals_or_species_is_not_counted(sound: FileSound) -> None:
    assert ONE_OR_MORE.fits(entry("a", sound, (BIRD,), recordist="me", count=1))
    assert not ONE_OR_MORE.fits(entry("a", sound, (BIRD,), recordist="me", count=3))
    assert not ONE_OR_MORE.fits(entry("a", sound, (BIRD,)))
    birds = Taxon("Aves", "bird", class_name="Aves", rank="class")
    assert not ONE_OR_MORE.fits(entry("a", sound, (birds,), recordist="me"))


@pytest.mark.parametrize(
    ("hertz", "answer"), [(100, "low"), (118, "low"), (170, "medium"), (250, "high"), (330, "high")]
)
def test_the_pitch_of_a_voice_is_measured(tmp_path: Path, hertz: float, answer: str) -> None:
    one = entry("a", stored(tmp_path / "a.wav", voice(hertz)), kind="speech")
    draft = SpeakerPitch().make(one, studio(library(tmp_path, [one])), rng())
    assert draft.output == answer
    assert draft.details["pitch_hz"] == pytest.approx(hertz, rel=0.03)


@pytest.mark.parametrize("hertz", [80.0, 110.0, 150.0, 190.0, 240.0, 320.0])
def test_a_voice_of_few_harmonics_is_measured_as_well(hertz: float) -> None:
    time = np.arange(RATE) / RATE
    soft = 0.1 * np.sin(2 * np.pi * hertz * time) + 0.03 * np.sin(4 * np.pi * hertz * time)
    measured = voice_pitch_hz(soft.astype(np.float32))
    assert measured == pytest.approx(hertz, rel=0.03)


@pytest.mark.parametrize(
    "samples",
    [
        voice(140),
        voice(205),
        (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32),
        voice(120, 0.2),
        tone(150, 0.02),
    ],
    ids=["between low and medium", "between medium and high", "whisper", "too short", "a click"],
)
def test_a_voice_without_a_clear_pitch_is_not_asked_about(tmp_path: Path, samples: np.ndarray) -> None:
    one = entry("a", stored(tmp_path / "a.wav", samples), kind="speech")
    with pytest.raises(UnusablePair, match="not clear"):
        SpeakerPitch().make(one, studio(library(tmp_path, [one])), rng())


def test_as_many_speakers_are_counted_as_speak(tmp_path: Path) -> None:
    sound = stored(tmp_path / "a.wav", voice(150, 0.6))
    known = [entry(f"{who}{take}", sound, kind="speech", recordist=who) for who in "abc" for take in "12"]
    unknown = [entry(f"unknown{take}", sound, kind="speech") for take in "12"]
    talk = entry("talk", sound, kind="speech", recordist="d", count=2)
    rows = library(tmp_path, [*unknown, talk, *known])
    assert not SpeakerCount().fits(talk) and not SpeakerSex().fits(replace_sex(talk))
    assert not SpeakerCount().fits(unknown[0])
    answers: Counter[str] = Counter()
    for _, draft in drafts(SpeakerCount(), known, studio(rows), 90):
        speakers = [part.entry.recording.recordist for part in draft.scene.placed]
        assert "" not in speakers and "d" not in speakers
        assert str(len(set(speakers))) == str(len(speakers)) == draft.output
        answers[draft.output] += 1
    assert set(answers) == {"1", "2", "3"} and min(answers.values()) > 15


def replace_sex(one: Entry) -> Entry:
    return replace(one, recording=replace(one.recording, sex="female"))


def test_too_few_speakers_make_no_pair(tmp_path: Path) -> None:
    sound = stored(tmp_path / "a.wav", voice(150, 0.6))
    rows = library(tmp_path, [entry("a", sound, kind="speech", recordist="a")])
    refused = 0
    for seed in range(20):
        try:
            assert SpeakerCount().make(rows[0], studio(rows), rng(seed)).output == "1"
        except UnusablePair:
            refused += 1
    assert 5 < refused < 19


def test_a_transcript_is_all_that_is_said(tmp_path: Path, animals: Library) -> None:
    for one, draft in drafts(Transcript(), fitting(Transcript(), animals), studio(animals), 10):
        assert draft.output == one.recording.transcript
        assert draft.scene.placed[0].crop == 0
        assert len(draft.scene.samples) >= one.duration * RATE - 1
    long = entry("a", stored(tmp_path / "a.wav", voice(150, 3.0)), kind="speech", transcript="long")
    with pytest.raises(UnusablePair, match="longer than a clip"):
        Transcript().make(long, studio(animals), rng())
    assert not Transcript().fits(replace(long, duration=11.0))


@pytest.mark.parametrize(
    ("midi", "name"), [(60, "C 4"), (69, "A 4"), (61, "C sharp 4"), (59, "B 3"), (0, "C -1"), (127, "G 9")]
)
def test_notes_have_their_usual_names(tmp_path: Path, sound: FileSound, midi: int, name: str) -> None:
    assert note_name(midi) == name
    one = entry("a", sound, kind="music", pitch=midi)
    assert NotePitch().make(one, studio(library(tmp_path, [one])), rng()).output == name


@pytest.mark.parametrize("task", [NotePitch(), SpeakerPitch(), LIFE_STAGE], ids=lambda task: task.name)
def test_what_is_told_from_pitch_or_tempo_keeps_it(task: Task, animals: Library) -> None:
    changed = SceneOptions(2.5, 1.0, AugmentOptions(probability=1.0))
    made = drafts(task, fitting(task, animals), studio(animals, options=changed), 30)
    kinds = {text.split()[0] for _, draft in made for part in draft.scene.placed for text in part.changes}
    assert kinds >= {"high-pass", "reverberation"} and not kinds & {"speed", "stretch"}


def test_instruments_and_places_are_chosen_from_those_that_there_are(animals: Library) -> None:
    for task, field in (
        (Instrument(options_share=1.0), "instrument"),
        (Environment(options_share=1.0), "labels"),
    ):
        known = {"strings", "brass", "flute"}
        if field == "labels":
            known = {"siren", "church bells", "engine", "clock", "rain", "wind", "hiss"}
        offered: set[str] = set()
        for _, draft in drafts(task, fitting(task, animals), studio(animals), 40):
            assert 2 <= len(draft.options) <= 6
            offered.update(draft.options)
        assert offered == known


def test_the_background_of_a_place_is_not_a_wrong_option(tmp_path: Path, sound: FileSound) -> None:
    rows = library(
        tmp_path, [entry("a", sound, kind="environment", labels=("siren",)), noise("rain"), noise("wind")]
    )
    behind = 0
    assert all(draft.scene.noise is None for _, draft in drafts(Environment(), [rows[0]], studio(rows), 20))
    noisy = studio(rows, options=replace(PLAIN, augment=AugmentOptions(noise_probability=0.6)))
    for _, draft in drafts(Environment(options_share=1.0), [rows[0]], noisy, 60):
        behind += draft.scene.noise is not None
        assert set(draft.options) - {"siren"} and not (set(draft.options) - {"siren"}) & names_heard(draft)
    assert 10 < behind < 40


@pytest.mark.parametrize(("snr_db", "mentioned"), [(-5.0, True), (9.5, True), (10.5, False), (25.0, False)])
def test_captions_mention_the_background_only_where_it_is_loud(
    animals: Library, snr_db: float, mentioned: bool
) -> None:
    loud = AugmentOptions(probability=0.0, noise_probability=1.0, snr_db=(snr_db, snr_db))
    entries = [one for one in fitting(Caption(), animals) if not one.recording.caption]
    for one, draft in drafts(Caption(), entries, studio(animals, options=replace(PLAIN, augment=loud)), 20):
        assert draft.scene.noise is not None
        label = draft.scene.noise.recording.labels[0]
        assert draft.output.endswith(f", with {label} in the background.") == mentioned
        assert one.taxa[0].common_name in draft.output
    for _, draft in drafts(Caption(), entries, studio(animals), 10):
        assert "background" not in draft.output


@pytest.mark.parametrize(
    ("name", "known", "caption"),
    [
        ("Eurasian nuthatch", {"call_types": ("song",)}, r"A Eurasian nuthatch (sings|is singing)\."),
        ("American crow", {"life_stage": "adult"}, r"An American crow (is heard|can be heard)\."),
        (
            "Ural owl",
            {"life_stage": "nestling", "call_types": ("begging call",)},
            r"A nestling Ural owl .*beg",
        ),
        ("unicorn", {"call_types": ("echolocation",)}, r"A unicorn (is heard|can be heard)\."),
        ("robin", {"life_stage": "subadult", "call_types": ("alarm",)}, r"A juvenile robin .* alarm"),
    ],
)
def test_captions_say_what_the_archive_says(
    tmp_path: Path, sound: FileSound, name: str, known: dict[str, Any], caption: str
) -> None:
    one = entry("a", sound, (Taxon("Genus species", name),), **known)
    draft = Caption().make(one, studio(library(tmp_path, [one])), rng())
    assert re.match(caption, draft.output)
    assert draft.labels == (draft.output,)


def test_an_archives_own_caption_stays_and_nothing_is_added_to_its_sound(animals: Library) -> None:
    noisy = replace(PLAIN, augment=AugmentOptions(noise_probability=1.0))
    own = [one for one in fitting(Caption(), animals) if one.recording.caption]
    for _, draft in drafts(Caption(), own, studio(animals, options=noisy), 10):
        assert draft.output == "A tone sounds." and draft.scene.noise is None


@pytest.mark.parametrize(("bursts", "told"), [((1.0, 6.0, 11.0), False), ((6.0, 6.8), True)])
def test_an_archives_own_caption_is_of_what_the_clip_holds(
    tmp_path: Path, bursts: tuple[float, ...], told: bool
) -> None:
    samples = np.zeros(12 * RATE, np.float32)
    for start in bursts:
        first = round(start * RATE)
        samples[first : first + RATE // 4] = 0.3 * np.sin(np.arange(RATE // 4) * 0.4)
    sf.write(tmp_path / "long.wav", samples, RATE)
    one = entry("long", FileSound(tmp_path / "long.wav"), caption="Something beeps.")
    room = studio(library(tmp_path, [one]), options=replace(PLAIN, seconds=2.0, shortest=0.5))
    if told:
        assert Caption().make(one, room, rng()).output == "Something beeps."
    else:
        with pytest.raises(UnusablePair, match="more than this part"):
            Caption().make(one, room, rng())


def test_which_species_is_in_which_part_of_a_long_recording_is_not_guessed(
    tmp_path: Path, sound: FileSound
) -> None:
    both = (Taxon("Genus alpha", "alpha bird"), Taxon("Genus beta", "beta bird"))
    one = entry("both", sound, both)
    short = replace(PLAIN, seconds=one.duration / 2, shortest=0.1)
    with pytest.raises(UnusablePair, match="longer than a clip"):
        Detection(none_share=0.0).make(one, studio(library(tmp_path, [one]), options=short), rng())


def test_an_archives_own_question_and_answer_are_passed_on(animals: Library, tmp_path: Path) -> None:
    noisy = replace(PLAIN, augment=AugmentOptions(probability=1.0, noise_probability=1.0))
    for one, draft in drafts(Own(), fitting(Own(), animals), studio(animals, options=noisy), 10):
        assert (draft.instruction, draft.output) == ("Is it raining?", "No, it is a tone.")
        assert draft.scene.noise is None and draft.scene.placed[0].changes == ()
        assert draft.scene.entries == (one,)
    sound = stored(tmp_path / "a.wav", tone(500, 0.5))
    nothing = entry("a", sound, kind="environment", instruction="Any birds?", answer="None")
    assert Own().make(nothing, studio(animals), rng()).labels == ()
    assert not Own().fits(entry("a", sound, kind="environment", instruction="Any birds?"))
