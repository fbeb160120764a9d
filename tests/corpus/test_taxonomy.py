import random
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naturelm.corpus.taxonomy import Taxon, Taxonomy, TaxonomyError
from naturelm.corpus.taxonomy_names import NearNames, edit_distance, name_key

BUILT_IN = Taxonomy.built_in()
SPECIES = tuple(taxon for taxon in BUILT_IN if taxon.rank == "species")
species = st.sampled_from(SPECIES)


def bird(scientific_name: str, common_name: str = "", **more: object) -> Taxon:
    taxon = Taxon(
        scientific_name,
        common_name,
        genus=scientific_name.split(maxsplit=1)[0],
        family="Paridae",
        order="Passeriformes",
        class_name="Aves",
        phylum="Chordata",
    )
    return replace(taxon, **more)  # type: ignore[arg-type]


def named(taxonomy: Taxonomy, name: str) -> str | None:
    taxon = taxonomy.resolve(name).taxon
    return taxon.scientific_name if taxon else None


def test_the_taxonomic_name_is_that_of_beans_zero() -> None:
    assert (
        BUILT_IN.resolve("Brazilian teal").taxon.taxonomic_name  # type: ignore[union-attr]
        == "Chordata Aves Anseriformes Anatidae Amazonetta brasiliensis"
    )
    assert Taxon("Bison", family="Bovidae", phylum="Chordata", rank="genus").taxonomic_name == (
        "Chordata Bovidae Bison"
    )
    assert (
        Taxon("Paridae", family="Paridae", class_name="Aves", rank="family").taxonomic_name == "Aves Paridae"
    )


@given(species, st.sampled_from([str.upper, str.lower, str.title, str.swapcase]), st.sampled_from("_ \t"))
def test_case_and_spacing_do_not_matter(taxon: Taxon, case: type[str], space: str) -> None:
    name = f"  {case(taxon.scientific_name).replace(' ', space * 2)} "
    match = BUILT_IN.resolve(name)
    assert match.taxon == taxon and match.how == "accepted" and match.name == name


@given(
    species,
    st.sampled_from(["Linnaeus, 1758", "(Linnaeus, 1758)", "L.", "Vieillot, 1808", "von Müller, 1776"]),
    st.sampled_from([str, str.upper, str.lower]),
)
def test_authors_do_not_matter(taxon: Taxon, author: str, case: type[str]) -> None:
    match = BUILT_IN.resolve(case(f"{taxon.scientific_name} {author}"))
    assert match.taxon == taxon
    assert match.how == "accepted" or (match.how == "subspecies" and case is not str and author == "L.")


@given(species, st.text("\u0300\u0301\u0308\u030c", min_size=1, max_size=3), st.integers(0, 5))
def test_accents_do_not_matter(taxon: Taxon, accents: str, place: int) -> None:
    name = taxon.scientific_name
    assert BUILT_IN.resolve(name[: place + 1] + accents + name[place + 1 :]).taxon == taxon


@given(st.text(max_size=40))
def test_any_text_resolves_to_something_and_its_key_is_stable(name: str) -> None:
    match = BUILT_IN.resolve(name)
    assert match.name == name
    assert (match.taxon is None) == (match.how in ("ambiguous", "misspelling", "unknown"))
    assert bool(match.suggestions) == (match.how in ("ambiguous", "misspelling"))
    assert name_key(name_key(name)) == name_key(name)
    assert all(BUILT_IN.resolve(other).taxon is not None for other in match.suggestions)


@pytest.mark.parametrize("name", ["Cetti's warbler", "Cetti’s Warbler", "cettis-warbler", "CETTIʼS  WARBLER"])
def test_apostrophes_and_hyphens_do_not_matter(name: str) -> None:
    assert named(BUILT_IN, name) == "Cettia cetti"


@pytest.mark.parametrize("name", ["wood pigeon", "Wood-Pigeon", "woodpigeon", "Wood–pigeon"])
def test_a_common_name_may_be_written_as_one_word(name: str) -> None:
    assert named(BUILT_IN, name) == "Columba palumbus"


@pytest.mark.parametrize(
    ("name", "how", "scientific_name"),
    [
        ("Parus caeruleus", "synonym", "Cyanistes caeruleus"),
        ("Carduelis chloris (Linnaeus, 1758)", "synonym", "Chloris chloris"),
        ("Dendroica petechia", "synonym", "Setophaga petechia"),
        ("Felis silvestris catus", "synonym", "Felis catus"),
        ("Dendroica", "synonym", "Setophaga"),
        ("Parus major newtoni", "subspecies", "Parus major"),
        ("Parus major newtoni Pražák, 1894", "subspecies", "Parus major"),
        ("Parus major ssp. newtoni", "subspecies", "Parus major"),
        ("Parus caeruleus obscurus", "subspecies", "Cyanistes caeruleus"),
        ("Corvus corone corone/orientalis", "subspecies", "Corvus corone"),
        ("Larus (Larus) argentatus", "accepted", "Larus argentatus"),
        ("Parus cf. major", "accepted", "Parus major"),
        ("Parus sp.", "accepted", "Parus"),
        ("Parus aff. major", "accepted", "Parus"),
        ("Turdus Linnaeus, 1758", "accepted", "Turdus"),
        ("paridae", "accepted", "Paridae"),
        ("Passeriformes", "accepted", "Passeriformes"),
        ("Great Tit (Parus major)", "common name", "Parus major"),
        ("owl", "common name", "Strigiformes"),
        ("owl sp.", "common name", "Strigiformes"),
        ("caribou", "common name", "Rangifer tarandus"),
    ],
)
def test_names_as_archives_write_them(name: str, how: str, scientific_name: str) -> None:
    match = BUILT_IN.resolve(name)
    assert match.taxon is not None
    assert (match.how, match.taxon.scientific_name) == (how, scientific_name)
    assert name in BUILT_IN


def test_a_rank_above_species_is_known_from_its_species() -> None:
    taxonomy = Taxonomy.from_taxa([bird("Parus major")])
    genus, family = taxonomy.resolve("Parus").taxon, taxonomy.resolve("PARIDAE").taxon
    assert genus is not None and family is not None
    assert (genus.rank, genus.taxonomic_name) == ("genus", "Chordata Aves Passeriformes Paridae Parus")
    assert (family.rank, family.genus, family.order) == ("family", "", "Passeriformes")
    assert [taxon.scientific_name for taxon in taxonomy] == ["Parus major"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Parus majro", "Parus major"),
        ("Prus major", "Parus major"),
        ("Parus majro Linnaeus, 1758", "Parus major"),
        ("Parus caerulus", "Cyanistes caeruleus"),
        ("Blackcaped Chikadee", "Poecile atricapillus"),
        ("nightingal", "Luscinia megarhynchos"),
        ("Erithacus  rubecola", "Erithacus rubecula"),
        ("Phyloscopus trochilis", "Phylloscopus trochilus"),
    ],
)
def test_a_misspelling_is_reported_and_not_corrected(name: str, suggestion: str) -> None:
    match = BUILT_IN.resolve(name)
    assert match.taxon is None and match.how == "misspelling"
    assert match.suggestions[0] == suggestion
    assert name not in BUILT_IN


@pytest.mark.parametrize(
    "name", ["norcar", "Parus imaginarius", "", " ?! ", "xx", "a" * 10_000, "Cardinalis x ignotus"]
)
def test_unknown_names_are_unknown(name: str) -> None:
    match = BUILT_IN.resolve(name)
    assert (match.taxon, match.how, match.suggestions) == (None, "unknown", ())


@pytest.mark.parametrize(
    ("name", "suggestions"),
    [
        ("robin", ("Erithacus rubecula", "Turdus migratorius")),
        ("Corvus corone/cornix", ("Corvus corone", "Corvus cornix")),
        ("Corvus corone x cornix", ("Corvus corone", "Corvus cornix")),
        ("Corvus corone × Corvus cornix", ("Corvus corone", "Corvus cornix")),
        ("Parus major, Turdus merula", ("Parus major", "Turdus merula")),
        ("great tit/common blackbird", ("Parus major", "Turdus merula")),
    ],
)
def test_a_name_of_two_taxa_is_ambiguous(name: str, suggestions: tuple[str, ...]) -> None:
    match = BUILT_IN.resolve(name)
    assert match.taxon is None and match.how == "ambiguous"
    assert set(match.suggestions) == set(suggestions) and len(match.suggestions) == 2


def test_a_synonym_of_two_species_is_ambiguous_and_an_accepted_name_is_not() -> None:
    taxa = [
        bird("Parus major", synonyms=("Parus minor", "Parus b")),
        bird("Parus minor", synonyms=("Parus b",)),
    ]
    taxonomy = Taxonomy.from_taxa(taxa)
    assert taxonomy.resolve("Parus b").suggestions == ("Parus major", "Parus minor")
    assert named(taxonomy, "Parus minor") == "Parus minor"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Большая синица", "большая  синица"),
        ("シジュウカラ", "シジュウカラ"),
        ("גדול", "גדול"),
        ("मैना", "मैना"),
        ("Σπίνος", "ΣΠΊΝΟΣ"),
        ("Blåmes", "BLAMES"),
        ("Rødhals", "rodhals"),
        ("Grünfink", "grünfink"),
    ],
)
def test_other_alphabets(written: str, asked: str) -> None:
    taxonomy = Taxonomy.from_taxa([bird("Parus major", other_names=(written,)), bird("Parus minor", "マナ")])
    assert named(taxonomy, asked) == "Parus major"


def test_letters_of_other_alphabets_that_only_look_accented_stay_apart() -> None:
    taxonomy = Taxonomy.from_taxa(
        [bird("Parus major", "ガ"), bird("Parus minor", "カ"), bird("Parus b", "कि")]
    )
    assert named(taxonomy, "ガ") == "Parus major"
    assert named(taxonomy, "カ") == "Parus minor"
    assert named(taxonomy, "कु") is None


def test_two_entries_of_one_taxon_become_one() -> None:
    first, second = (
        bird("Parus major", "Great Tit"),
        bird("parus major", "Great Titmouse", family="", synonyms=("P. b",)),
    )
    (taxon,) = Taxonomy.from_taxa([first, second])
    assert taxon == replace(first, synonyms=("P. b",), other_names=("Great Titmouse",))


def test_a_subspecies_is_folded_into_its_species_and_stays_without_one() -> None:
    taxa = [
        bird("Canis lupus dingo", "dingo", rank="subspecies"),
        bird("Canis lupus", "wolf"),
        bird("Motacilla flava thunbergi", "grey-headed wagtail", rank="subspecies"),
    ]
    taxonomy = Taxonomy.from_taxa(taxa)
    assert [taxon.scientific_name for taxon in taxonomy] == ["Canis lupus", "Motacilla flava thunbergi"]
    assert named(taxonomy, "dingo") == "Canis lupus"
    assert taxonomy.resolve("Canis lupus dingo").how == "subspecies"
    assert named(taxonomy, "grey-headed wagtail") == "Motacilla flava thunbergi"


def test_a_taxon_needs_a_scientific_name() -> None:
    with pytest.raises(TaxonomyError, match="'': a taxon needs a scientific name"):
        Taxonomy.from_taxa([Taxon("", "dog")])


def test_own_entries_win_a_merger() -> None:
    own = Taxonomy.from_taxa(
        [bird("Cyanistes caeruleus", "blue tit", synonyms=("Parus caeruleus",), family="Own")]
    )
    other = Taxonomy.from_taxa(
        [
            bird("Parus caeruleus", "Blaumeise", family="Other", synonyms=("Parus c",)),
            bird("Cyanistes teneriffae", "blue tit", other_names=("robin",)),
            bird("Petroica boodang", "robin"),
        ]
    )
    merged = own.merged_with(other)
    assert len(merged) == 3
    assert named(merged, "blue tit") == "Cyanistes caeruleus"
    assert named(merged, "Blaumeise") == named(merged, "Parus c") == "Cyanistes caeruleus"
    taxon = merged.resolve("Parus caeruleus").taxon
    assert taxon is not None and taxon.family == "Own" and taxon.common_name == "blue tit"
    assert merged.resolve("robin").suggestions == ("Cyanistes teneriffae", "Petroica boodang")
    assert named(merged, "Cyanistes teneriffae") == "Cyanistes teneriffae"
    third = Taxonomy.from_taxa([bird("Turdus migratorius", "robin"), bird("Parus d", "blue tit")])
    assert merged.merged_with(third).resolve("robin") == merged.resolve("robin")
    assert named(merged.merged_with(third), "blue tit") == "Cyanistes caeruleus"


def test_an_own_group_keeps_its_common_name_beside_a_genus_of_another() -> None:
    own = Taxonomy.from_taxa([Taxon("Cicadidae", "cicada", family="Cicadidae", rank="family")])
    other = Taxonomy.from_taxa([Taxon("Cicada", genus="Cicada", family="Cicadidae", rank="genus")])
    assert named(other, "cicada") == "Cicada"
    assert named(own.merged_with(other), "cicada") == "Cicadidae"


def test_every_name_of_the_built_in_table_leads_to_its_taxon_or_is_ambiguous() -> None:
    assert len({taxon.scientific_name for taxon in BUILT_IN}) == len(BUILT_IN) > 250
    for taxon in BUILT_IN:
        assert named(BUILT_IN, taxon.scientific_name) == taxon.scientific_name
        assert taxon.phylum and taxon.class_name and (taxon.common_name or taxon.synonyms)
        for name in filter(None, (taxon.common_name, *taxon.other_names, *taxon.synonyms)):
            match = BUILT_IN.resolve(name)
            assert match.taxon == taxon or taxon.scientific_name in match.suggestions, name
    for taxon in SPECIES:
        assert taxon.genus == taxon.scientific_name.split()[0] and taxon.family and taxon.order


PLAIN_WORDS = """dog cat cow bull ox calf sheep ram lamb goat horse donkey zebra pig chicken hen rooster
cockerel chick duck drake goose gander turkey owl frog toad blackbird crow cuckoo skylark nandu penguin
quetzal gull toucan bee grasshopper hornet mosquito iguana chimpanzee gorilla orca badger bear bison camel
dromedary lion tiger caribou reindeer fox elephant ferret giraffe hippopotamus beaver mouse rabbit squirrel
koala wombat chiffchaff chaffinch wren nightingale swift ovenbird human meerkat bat cricket cicada coyote
wolf bumblebee deer dolphin parrot woodpecker"""


@pytest.mark.parametrize("word", PLAIN_WORDS.split())
def test_plain_words_are_known(word: str) -> None:
    assert BUILT_IN.resolve(word).taxon is not None


def made_up_taxa(count: int) -> list[Taxon]:
    chance = random.Random(7)

    def word(ending: str) -> str:
        return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 9))) + ending

    genera = [word("us").capitalize() for _ in range(count // 10)]
    return [bird(f"{chance.choice(genera)} {word('ensis')}") for _ in range(count)]


def test_few_names_of_a_large_backbone_are_compared_with_an_unknown_one() -> None:
    taxa = made_up_taxa(50_000)
    taxonomy = Taxonomy.from_taxa(taxa)
    index = NearNames(name_key(taxon.scientific_name) for taxon in taxa)
    for taxon in taxa[::5000]:
        genus, epithet = taxon.scientific_name.split()
        for name in (
            f"{genus} {epithet[:-2]}i{epithet[-2:]}",
            f"{genus[1:]} {epithet}",
            f"{genus}x {epithet}x",
        ):
            assert taxon.scientific_name in taxonomy.resolve(name).suggestions
            assert len(index.sharing_a_word(name_key(name))) < 200
            assert len(index.sharing_part_of_a_word(name_key(name))) < 200
    assert taxonomy.resolve("Qqqqus jjjjjensis").how == "unknown"


letters = st.text("abc", max_size=6)


@given(letters, letters, st.integers(0, 4))
def test_distances_are_symmetric_and_given_up_beyond_the_limit(one: str, other: str, limit: int) -> None:
    whole = edit_distance(one, other, 99)
    assert edit_distance(one, other, limit) == edit_distance(other, one, limit) == min(whole, limit + 1)
    assert (whole == 0) == (one == other) and whole >= abs(len(one) - len(other))


@given(letters, letters, st.integers(0, 5))
def test_one_slip_is_at_distance_one(start: str, end: str, limit: int) -> None:
    assert edit_distance(start + end, start + "z" + end, 1) == 1
    assert edit_distance(start + "y" + end, start + "z" + end, 1) == 1
    assert edit_distance(start + "yz" + end, start + "zy" + end, 1) == 1
