"""What holds for every task, and for naming and detection."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from entries import RATE, entry, first_heard, library, noise, species, stored, tone
from zoo import HELD_OUT, HELD_OUT_INVENTED, PLAIN, drafts, fitting, names_heard, studio, zoo

from naturelm.corpus import prompts
from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.fauna import SPECIES
from naturelm.corpus.library import Library
from naturelm.corpus.prompts import Wording
from naturelm.corpus.scene import SceneOptions, UnusablePair
from naturelm.corpus.tasks import TASKS, Task
from naturelm.corpus.tasks.detection import Detection, DetectionOptions, Several
from naturelm.corpus.tasks.naming import (
    FAMILY,
    GENUS,
    SPECIES_COMMON,
    SPECIES_SCIENTIFIC,
    SPECIES_TAXONOMIC,
)

LIVELY = SceneOptions(seconds=2.5, augment=AugmentOptions(probability=0.5))
NAMING = (SPECIES_COMMON, SPECIES_SCIENTIFIC, SPECIES_TAXONOMIC, GENUS, FAMILY)
ANIMAL_TASKS = [task for task in TASKS if task.name in {
    "species-common", "species-scientific", "species-taxonomic", "genus", "family", "detection",
    "detection-options", "species-several", "caption", "life-stage", "call-type", "count", "one-or-more",
}]  # fmt: skip
WORDINGS = {name: value for name, value in vars(prompts).items() if isinstance(value, Wording)}


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return zoo(tmp_path_factory.mktemp("zoo"))


def named(task: Task) -> str:
    return task.name


@pytest.mark.parametrize("task", TASKS, ids=named)
def test_a_pair_is_a_sound_clip_with_a_question_and_its_answer(task: Task, animals: Library) -> None:
    made = drafts(task, fitting(task, animals), studio(animals, options=LIVELY), 15)
    for one, draft in made:
        samples = draft.scene.samples
        assert 0 < len(samples) <= 2.5 * RATE
        assert np.abs(samples).max() < 1
        assert draft.instruction.strip() == draft.instruction != ""
        assert "{" not in draft.instruction and "AudioHere" not in draft.instruction
        assert draft.output == (", ".join(draft.labels) or "None")
        assert len(set(draft.options)) == len(draft.options)
        if draft.options:
            assert set(draft.labels) <= set(draft.options)
            assert all(option in draft.instruction for option in draft.options)
            assert not (set(draft.options) - set(draft.labels)) & names_heard(draft)
        if draft.labels:
            assert samples.any() and one in draft.scene.entries
        assert {other.split for other in draft.scene.entries} <= {"train"}


@pytest.mark.parametrize("task", TASKS, ids=named)
def test_the_same_seed_makes_the_same_pair(task: Task, animals: Library) -> None:
    def made(seed: int) -> list[tuple[str, ...]]:
        of_seed = drafts(task, fitting(task, animals), studio(animals, options=LIVELY), 6, seed=seed)
        return [
            (one.key, draft.instruction, draft.output, *draft.options, draft.scene.samples.tobytes().hex())
            for one, draft in of_seed
        ]

    assert made(1) == made(1)
    assert made(1) != made(2)


@pytest.mark.parametrize("task", TASKS, ids=named)
def test_training_text_never_holds_a_name_of_the_test_split(task: Task, animals: Library) -> None:
    held_out = {
        name
        for taxon in HELD_OUT
        for name in (taxon.scientific_name, taxon.common_name, taxon.genus, taxon.family)
    } | {SPECIES[index].common_name for index in HELD_OUT_INVENTED}
    held_out |= {SPECIES[index].scientific_name for index in HELD_OUT_INVENTED}
    for _, draft in drafts(task, fitting(task, animals), studio(animals), 30):
        text = " ".join((draft.instruction, draft.output, *draft.options))
        assert not [name for name in held_out if name in text]


@pytest.mark.parametrize("task", TASKS, ids=named)
def test_held_out_questions_are_always_worded_the_same(task: Task, animals: Library) -> None:
    made = drafts(task, fitting(task, animals, "test"), studio(animals, "test"), 8)
    if task.name == "own":
        return
    first = {wording[0] for known in WORDINGS.values() for wording in (known.real, known.invented) if wording}
    for _, draft in made:
        opening = {
            text.format(options=", ".join(draft.options)) for text in first if "{question}" not in text
        }
        assert draft.instruction in opening
        assert bool(draft.options) == (task.name == "detection-options")


@pytest.mark.parametrize("task", ANIMAL_TASKS, ids=named)
@pytest.mark.parametrize("realm", ["real", "invented"])
def test_each_realm_is_asked_about_in_its_own_words_and_with_its_own_names(
    task: Task, realm: str, animals: Library
) -> None:
    entries = [one for one in fitting(task, animals, realm=realm) if one.recording.kind == "animal"]
    for _, draft in drafts(task, entries, studio(animals), 30):
        assert ("invented" in draft.instruction) == (realm == "invented")
        if task.name in {"life-stage", "call-type"}:
            continue
        foreign = "Bird" if realm == "invented" else "-note"
        assert not any(foreign in option for option in draft.options)
        assert {part.entry.recording.source == "fauna" for part in draft.scene.placed} <= {
            realm == "invented"
        }


def test_the_words_for_invented_animals_all_say_that_they_are_and_no_others_do() -> None:
    assert len(WORDINGS) > 15
    for wording in WORDINGS.values():
        assert wording.real
        assert not any("invented" in text for text in wording.real)
        assert all("invented" in text for text in wording.invented)
        for texts in (wording.real, wording.invented):
            assert len(set(texts)) == len(texts)


def test_sex_and_other_questions_without_words_for_them_are_not_asked_of_invented_animals(
    animals: Library,
) -> None:
    asked = {task.name for task in TASKS if fitting(task, animals, realm="invented")}
    assert asked == {task.name for task in ANIMAL_TASKS}


@pytest.mark.parametrize("task", NAMING, ids=named)
def test_names_are_those_of_the_focal_animal(task: Task, animals: Library) -> None:
    parts = {
        "species-common": lambda taxon: taxon.common_name,
        "species-scientific": lambda taxon: taxon.scientific_name,
        "species-taxonomic": lambda taxon: taxon.taxonomic_name,
        "genus": lambda taxon: taxon.genus,
        "family": lambda taxon: taxon.family,
    }
    for one, draft in drafts(task, fitting(task, animals), studio(animals), 20):
        assert draft.output == parts[task.name](one.taxa[0])
        assert [part.entry for part in draft.scene.placed] == [one]


def test_an_invented_animal_is_not_named_from_a_call_that_lacks_its_traits(animals: Library) -> None:
    calls = {one.recording.call_types for one in fitting(SPECIES_COMMON, animals, realm="invented")}
    assert calls == {("call",)}
    (alarm, *_) = [
        one for one in animals if one.recording.call_types == ("alarm call",) and one.split == "train"
    ]
    assert any(task.fits(alarm) for task in TASKS if task.name == "call-type")


def test_the_right_option_stands_anywhere(animals: Library) -> None:
    task = replace(SPECIES_COMMON, options_share=1.0)
    seen: dict[int, Counter[int]] = {}
    for _, draft in drafts(task, fitting(task, animals, realm="real"), studio(animals), 700):
        places = seen.setdefault(len(draft.options), Counter())
        places[draft.options.index(draft.output)] += 1
    assert set(seen) == set(range(2, 9))
    observed = [places[place] for count, places in seen.items() for place in range(count)]
    expected = [places.total() / count for count, places in seen.items() for _ in range(count)]
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    assert scipy.stats.chi2.sf(statistic, len(observed) - len(seen)) > 1e-3


def test_about_so_many_questions_come_with_options_as_asked_for(animals: Library) -> None:
    made = drafts(SPECIES_COMMON, fitting(SPECIES_COMMON, animals), studio(animals), 250)
    assert 70 < sum(bool(draft.options) for _, draft in made) < 130


def test_a_name_alone_in_the_world_makes_no_list(tmp_path: Path) -> None:
    sound = stored(tmp_path / "a.wav", tone(1000, 0.5))
    lonely = library(tmp_path, [entry("a", sound, (species(0, 0, 0),))])
    task = replace(SPECIES_COMMON, options_share=1.0)
    with pytest.raises(UnusablePair, match="no other name"):
        task.make(lonely[0], studio(lonely), np.random.default_rng(0))
    with pytest.raises(UnusablePair, match="no other species"):
        Several().make(lonely[0], studio(lonely), np.random.default_rng(0))
    with pytest.raises(UnusablePair, match="no other name"):
        DetectionOptions().make(lonely[0], studio(lonely), np.random.default_rng(0))


@pytest.mark.parametrize("realm", ["real", "invented"])
def test_detection_names_all_that_is_heard_and_nothing_else(realm: str, animals: Library) -> None:
    made = drafts(Detection(), fitting(Detection(), animals, realm=realm), studio(animals), 200)
    for _, draft in made:
        heard = {taxon.common_name for one in draft.scene.entries for taxon in one.all_taxa}
        assert set(draft.labels) == heard
        if heard:
            assert {event["label"] for event in draft.details["events"]} == heard  # type: ignore[attr-defined]
    sizes = Counter(len(draft.labels) for _, draft in made)
    assert 30 < sizes[0] < 70
    assert all(sizes[count] > 25 for count in (1, 2, 3)) and set(sizes) == {0, 1, 2, 3}


def test_none_is_the_answer_to_noise_alone_and_to_silence(animals: Library) -> None:
    task = Detection(none_share=1.0)
    made = drafts(task, fitting(task, animals), studio(animals), 100)
    silent = [draft for _, draft in made if not draft.scene.samples.any()]
    for _, draft in made:
        assert draft.output == "None" and draft.labels == ()
        assert [one.recording.kind for one in draft.scene.entries] in ([], ["noise"])
    assert 5 <= len(silent) <= 30
    assert all(draft.scene.noise is None for draft in silent)


def test_detection_from_a_list_has_what_is_heard_in_it_or_nothing_of_it(animals: Library) -> None:
    made = drafts(DetectionOptions(), fitting(DetectionOptions(), animals), studio(animals), 250)
    for _, draft in made:
        heard = {taxon.common_name for one in draft.scene.entries for taxon in one.all_taxa}
        assert set(draft.options) & heard == set(draft.labels)
        assert set(draft.labels) in (set(), heard)
        assert 2 <= len(draft.options) <= 8 and len(draft.options) > len(draft.labels)
    none = [draft for _, draft in made if not draft.labels]
    assert 50 < len(none) < 105
    assert all(draft.output == "None" for draft in none)
    assert 15 < sum(not draft.scene.placed for draft in none) < len(none) - 15


def test_several_species_are_named_in_the_order_in_which_they_are_heard(tmp_path: Path) -> None:
    hertz = {"Bird 0a0": 700.0, "Bird 1a0": 1500.0, "Bird 2a0": 3100.0}
    recordings = [
        entry(
            name,
            stored(tmp_path / f"{name}.wav", tone(pitch, 0.3, before=(0.0, 0.8, 0.3)[place], after=0.5)),
            (species(place, 0, 0),),
        )
        for place, (name, pitch) in enumerate(hertz.items())
    ]
    three = library(tmp_path, recordings)
    for _, draft in drafts(Several(), list(three), studio(three), 30):
        assert len(draft.labels) >= 2
        onsets = [first_heard(draft.scene.samples, hertz[name]) for name in draft.labels]
        assert onsets == sorted(onsets) or min(np.abs(np.diff(onsets))) < 0.06
        assert draft.output == ", ".join(draft.labels)


def test_companions_are_of_other_species(animals: Library) -> None:
    for _, draft in drafts(Several(), fitting(Several(), animals), studio(animals), 60):
        taxa = [part.entry.taxa[0] for part in draft.scene.placed]
        assert 2 <= len(set(taxa)) == len(taxa) <= 3


def test_background_with_an_animal_in_it_is_not_laid_under_clips(tmp_path: Path) -> None:
    hidden = replace(noise("rain"), background=(species(5, 0, 0),))
    focal = entry("a", stored(tmp_path / "a.wav", tone(1000, 0.5)), (species(0, 0, 0),))
    place = studio(library(tmp_path, [hidden, focal]), options=LIVELY)
    for _, draft in drafts(Detection(), [focal], place, 20):
        assert draft.scene.noise is None


def test_every_clip_has_a_background_or_none_as_asked_for(animals: Library) -> None:
    for share in (0.0, 1.0):
        options = replace(PLAIN, augment=AugmentOptions(probability=0.0, noise_probability=share))
        made = drafts(SPECIES_COMMON, fitting(SPECIES_COMMON, animals), studio(animals, options=options), 20)
        assert {draft.scene.noise is not None for _, draft in made} == {share == 1.0}
