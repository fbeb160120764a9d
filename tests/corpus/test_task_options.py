"""Wrong options: of the same realm, not audible, about half of them hard."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from entries import entry, fauna_taxon, invented, library, species, stored, tone
from zoo import studio

from naturelm.corpus.cast import Cast
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.recordings import FileSound
from naturelm.corpus.tasks.naming import SPECIES_COMMON, common_name
from naturelm.corpus.taxonomy import Taxon

FAMILIES = 20
BIRDS = [
    species(family, genus, number) for family in range(FAMILIES) for genus in (0, 1) for number in (0, 1)
]
CROW = Taxon("Corvus", "crow", "Corvus", "Corvidae", "Passeriformes", "Aves", "Chordata", "genus")
CARRION_CROW = Taxon(
    "Corvus corone", "carrion crow", "Corvus", "Corvidae", "Passeriformes", "Aves", "Chordata"
)
BIRD = Taxon("Aves", "bird", "", "", "", "Aves", "Chordata", "class")
FROG = Taxon("Anura", "frog", "", "", "Anura", "Amphibia", "Chordata", "order")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> FileSound:
    return stored(tmp_path_factory.mktemp("sound") / "tone.wav", tone(1000, 0.3))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, sound: FileSound) -> Library:
    """Eighty birds, every tenth of them of Peru, and invented animals."""
    recorded = [
        entry(str(number), sound, (taxon,), region="Peru" if number % 10 == 0 else f"country {number}")
        for number, taxon in enumerate(BIRDS)
    ]
    return library(
        tmp_path_factory.mktemp("many"), [*recorded, *(invented(index) for index in range(0, 2880, 90))]
    )


def wrong(
    cast: Cast,
    true: Sequence[Taxon],
    count: int,
    seed: int,
    *,
    fauna: bool = False,
    rank: str = "common_name",
) -> list[str]:
    return cast.wrong_taxa(
        true, count, np.random.default_rng(seed), invented=fauna, name=lambda taxon: getattr(taxon, rank)
    )


def test_about_half_are_kin_where_there_are_kin(many: Library) -> None:
    cast, true = Cast(many, "train"), BIRDS[21]
    kin = {taxon.common_name for taxon in BIRDS if taxon.family == true.family}
    hard = []
    for seed in range(150):
        names = wrong(cast, [true], 4, seed)
        assert len(names) == len(set(names)) == 4
        assert true.common_name not in names
        hard.append(sum(name in kin for name in names))
    assert min(hard) == 2
    assert np.mean(hard) < 2.4


def test_the_nearest_kin_come_first(many: Library) -> None:
    cast, true = Cast(many, "train"), BIRDS[21]
    (sister,) = [taxon for taxon in BIRDS if taxon.genus == true.genus and taxon != true]
    assert all(sister.common_name in wrong(cast, [true], 1, seed) for seed in range(20))


def test_those_of_the_same_region_are_hard_too(tmp_path: Path, sound: FileSound) -> None:
    alone = [
        entry(str(number), sound, (species(number, 0, 0),), region="Peru" if number < 4 else "Chile")
        for number in range(40)
    ]
    cast = Cast(library(tmp_path, alone), "train")
    local = {f"Bird {number}a0" for number in range(1, 4)}
    hard = [len(local & set(wrong(cast, [species(0, 0, 0)], 4, seed))) for seed in range(100)]
    assert min(hard) == 2 and np.mean(hard) < 2.5


@pytest.mark.parametrize("rank", ["genus", "family"])
def test_wrong_genera_and_families_are_not_the_right_one(many: Library, rank: str) -> None:
    cast, true = Cast(many, "train"), BIRDS[40]
    kin = next(taxon.genus for taxon in BIRDS if taxon.family == true.family and taxon.genus != true.genus)
    for seed in range(40):
        names = wrong(cast, [true], 3, seed, rank=rank)
        assert len(set(names)) == 3
        assert getattr(true, rank) not in names
        if rank == "genus":
            assert kin in names  # the one other genus of the family


def test_a_genus_of_many_species_leaves_room_for_its_kin(tmp_path: Path) -> None:
    one_genus, sister, strangers = range(16), range(16, 18), range(300, 2880, 200)
    cast = Cast(library(tmp_path, [invented(index) for index in (*one_genus, *sister, *strangers)]), "train")
    for seed in range(20):
        assert fauna_taxon(16).genus in wrong(cast, [fauna_taxon(3)], 2, seed, fauna=True, rank="genus")


def test_options_are_of_the_same_realm(many: Library) -> None:
    cast = Cast(many, "train")
    real = {taxon.common_name for taxon in BIRDS}
    for seed in range(30):
        assert set(wrong(cast, [BIRDS[seed]], 5, seed)) <= real
        assert not set(wrong(cast, [fauna_taxon(90 * seed)], 5, seed, fauna=True)) & real


@pytest.mark.parametrize(
    ("true", "never"),
    [
        (CARRION_CROW, {"carrion crow", "crow", "bird"}),
        (CROW, {"carrion crow", "crow", "bird"}),
        (FROG, {"frog"}),
    ],
    ids=["species", "genus", "order"],
)
def test_a_group_that_holds_the_animal_is_no_wrong_answer_nor_is_a_member_of_it(
    tmp_path: Path, sound: FileSound, true: Taxon, never: set[str]
) -> None:
    taxa = [
        CARRION_CROW,
        CROW,
        BIRD,
        FROG,
        Taxon("Bufo bufo", "toad", "Bufo", "Bufonidae", "Caudata", "Amphibia"),
    ]
    cast = Cast(library(tmp_path, [entry(taxon.common_name, sound, (taxon,)) for taxon in taxa]), "train")
    for seed in range(20):
        names = set(wrong(cast, [true], 5, seed))
        assert names == {taxon.common_name for taxon in taxa} - never


def test_no_two_names_that_one_animal_may_bear_are_put_into_one_clip(
    tmp_path: Path, sound: FileSound
) -> None:
    entries = [entry(taxon.common_name, sound, (taxon,)) for taxon in (CARRION_CROW, CROW, BIRD, FROG)]
    cast = Cast(library(tmp_path, entries), "train")

    def any_of_them(_: Entry) -> bool:
        return True

    for seed in range(20):
        others = cast.others(entries[0], 3, np.random.default_rng(seed), fit=any_of_them)
        assert [one.recording.id for one in others] == ["frog"]


def test_test_rows_may_offer_names_of_training_and_training_rows_none_of_test(
    tmp_path: Path, sound: FileSound
) -> None:
    known = [entry(str(number), sound, (BIRDS[number],), split="train") for number in range(5)]
    held = [entry(str(number), sound, (BIRDS[number],), split="test") for number in range(5, 10)]
    checked = [entry(str(number), sound, (BIRDS[number],), split="validation") for number in range(10, 15)]
    splits = library(tmp_path, [*known, *held, *checked])
    names = {
        split: set(wrong(Cast(splits, split), [BIRDS[70]], 15, 0))
        for split in ("train", "validation", "test")
    }
    assert names["train"] == {common_name(taxon) for taxon in BIRDS[:5]}
    assert names["test"] == {common_name(taxon) for taxon in BIRDS[:10]}
    assert names["validation"] == {common_name(taxon) for taxon in (*BIRDS[:5], *BIRDS[10:15])}


def test_labels_of_places_and_instruments_stay_in_their_split_too(tmp_path: Path, sound: FileSound) -> None:
    rows = [
        entry("a", sound, kind="environment", labels=("siren",)),
        entry("b", sound, kind="environment", labels=("engine",), split="test"),
        entry("c", sound, kind="music", instrument="brass"),
        entry("d", sound, kind="music", instrument="flute", split="test"),
    ]
    splits = library(tmp_path, rows)
    assert Cast(splits, "train").sound_labels == ["siren"]
    assert Cast(splits, "test").sound_labels == ["engine", "siren"]
    assert Cast(splits, "train").instruments == ["brass"]
    assert Cast(splits, "test").instruments == ["brass", "flute"]


def test_a_species_in_the_background_is_neither_asked_for_nor_a_wrong_option(
    tmp_path: Path, sound: FileSound
) -> None:
    focal, behind = species(0, 0, 0), species(0, 0, 1)
    others = [entry(f"other-{n}", sound, (species(0, 1, n),)) for n in range(4)]
    rows = library(tmp_path, [entry("focal", sound, (focal,), background=(behind,)), *others])
    room = studio(rows)
    asked = replace(SPECIES_COMMON, options_share=1.0)
    assert asked.fits(rows[0])
    for seed in range(30):
        draft = asked.make(rows[0], room, np.random.default_rng(seed))
        assert draft.output == focal.common_name
        assert behind.common_name not in draft.options
        assert len(draft.options) > 1
