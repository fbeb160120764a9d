import re
from collections import defaultdict
from enum import Enum
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from naturelm.corpus.fauna import SPECIES, Contour, Count, FaunaSpecies, Register, Tempo, Timbre, Traits

species = st.sampled_from(SPECIES)
TRAITS: tuple[type[Enum], ...] = (Timbre, Contour, Register, Tempo, Count)


def values(kind: FaunaSpecies) -> tuple[Enum, ...]:
    traits = kind.traits
    return (traits.timbre, traits.contour, traits.register, traits.tempo, traits.count)


def test_every_combination_of_traits_is_one_species_with_names_of_its_own() -> None:
    assert len(SPECIES) == 6 * 6 * 5 * 4 * 4
    assert len({kind.traits for kind in SPECIES}) == len(SPECIES)
    assert len({kind.scientific_name for kind in SPECIES}) == len(SPECIES)
    assert len({kind.common_name for kind in SPECIES}) == len(SPECIES)
    assert [kind.index for kind in SPECIES] == list(range(len(SPECIES)))


def test_names_of_one_species() -> None:
    traits = Traits(Timbre.WHISTLE, Contour.RISING, Register.HIGH, Tempo.RAPID, Count.THREE)
    (kind,) = (kind for kind in SPECIES if kind.traits == traits)
    assert kind.common_name == "rapid three-note high rising whistler"
    assert kind.scientific_name == "Sibiscanalta velotrina"
    assert (kind.genus, kind.family, kind.order) == ("Sibiscanalta", "Sibiscanidae", "Sibiformes")
    assert (kind.class_name, kind.phylum) == ("Fictophonia", "Fictozoa")


def test_ranks_nest_and_hold_as_many_as_the_traits_say() -> None:
    below: dict[str, set[str]] = defaultdict(set)
    above: dict[str, set[str]] = defaultdict(set)
    for kind in SPECIES:
        ranks = (kind.phylum, kind.class_name, kind.order, kind.family, kind.genus, kind.scientific_name)
        for upper, lower in pairwise(ranks):
            below[upper].add(lower)
            above[lower].add(upper)
    assert all(len(parents) == 1 for parents in above.values())
    assert len(below["Fictophonia"]) == 6
    assert all(len(below[kind.order]) == 6 for kind in SPECIES)
    assert all(len(below[kind.family]) == 5 for kind in SPECIES)
    assert all(len(below[kind.genus]) == 16 for kind in SPECIES)


@given(species)
def test_a_scientific_name_can_be_said_and_is_short(kind: FaunaSpecies) -> None:
    assert re.fullmatch(r"[A-Z][a-z]+ [a-z]+", kind.scientific_name)
    assert len(kind.scientific_name) <= 25
    assert not re.search(r"[aeiou]{3}|[^aeiou ]{4}", kind.scientific_name.lower())
    assert kind.scientific_name.startswith(kind.genus + " ")


@given(species, species)
def test_two_species_share_a_word_exactly_where_they_share_a_trait(
    one: FaunaSpecies, other: FaunaSpecies
) -> None:
    shared = sum(a is b for a, b in zip(values(one), values(other), strict=True))
    words = zip(one.common_name.split(), other.common_name.split(), strict=True)
    assert sum(a == b for a, b in words) == shared


@given(species)
def test_a_name_never_heard_before_can_be_taken_apart_into_its_traits(kind: FaunaSpecies) -> None:
    by_word = {value.word: value for trait in TRAITS for value in trait}  # type: ignore[attr-defined]
    assert len(by_word) == 25
    assert {by_word[word] for word in kind.common_name.split()} == set(values(kind))
    stems = {trait: {value.stem: value for value in trait} for trait in TRAITS}  # type: ignore[attr-defined]
    genus, epithet = kind.scientific_name.lower().split()
    parts = [
        value
        for trait, text in zip(TRAITS, (genus, genus, genus, epithet, epithet), strict=True)
        for stem, value in stems[trait].items()
        if _stands(text, stem, trait)
    ]
    assert parts == list(values(kind))


def _stands(text: str, stem: str, trait: type[Enum]) -> bool:
    if trait in (Timbre, Tempo):
        return text.startswith(stem)
    return text.endswith(stem) if trait in (Register, Count) else stem in text[4:-3]
