"""Splits: what belongs together stays together, what is held out is never trained on."""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.options import CorpusError, SplitOptions
from naturelm.corpus.splits import HeldOut, Member, assign_splits, choose_held_out, novelties
from naturelm.corpus.taxonomy import Taxon, Taxonomy

TAXA = tuple(
    Taxon(f"{genus} {species}", genus=genus, family=family)
    for genus, family in (("Aa", "Xidae"), ("Ba", "Xidae"), ("Ca", "Yidae"), ("Da", "Zidae"))
    for species in ("minor", "major", "medius")
)
NOTHING = HeldOut(frozenset(), frozenset(), frozenset())
STRICTER = ("train", "validation", "test")

held_outs = st.builds(
    HeldOut,
    st.frozensets(st.sampled_from([taxon.scientific_name for taxon in TAXA]), max_size=3),
    st.frozensets(st.sampled_from(["Aa", "Ba", "Ca", "Da"]), max_size=1),
    st.frozensets(st.sampled_from(["Xidae", "Yidae", "Zidae"]), max_size=1),
)
split_options = st.builds(
    SplitOptions,
    test_share=st.floats(0, 0.5),
    validation_share=st.floats(0, 0.5),
    recordists_apart=st.booleans(),
    archive_splits=st.booleans(),
)


def a_member(number: int, **changes: object) -> Member:
    """A recording that stands alone."""
    alone = Member(f"s:{number}", (), f"s:group {number}", f"s:{number}.wav", f"s:person {number}", "")
    return replace(alone, **changes)  # type: ignore[arg-type]


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    """Recordings that share groups, files and recordists at random."""
    names = st.integers(0, 12)
    return [
        a_member(
            number,
            taxa=tuple(draw(st.lists(st.sampled_from(TAXA), max_size=2, unique=True))),
            group=f"s:group {draw(names)}",
            file=f"s:{draw(names)}.wav",
            recordist=draw(st.sampled_from(["", *(f"s:person {n}" for n in range(6))])),
            archive_split=draw(
                st.sampled_from(["", "", "train", "dev", "valid", "test", "evaluation", "fold 1"])
            ),
            names_held_out=draw(st.integers(0, 9)) == 0,
        )
        for number in range(draw(st.integers(1, 25)))
    ]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Member], list[tuple[str, str]], HeldOut, SplitOptions, int]:
    rows = draw(members())
    keys = st.sampled_from([member.key for member in rows])
    copies = draw(st.lists(st.tuples(keys, keys), max_size=4))
    return rows, copies, draw(held_outs), draw(split_options), draw(st.integers(0, 99))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_what_belongs_together_is_never_parted(
    case: tuple[list[Member], list[tuple[str, str]], HeldOut, SplitOptions, int],
) -> None:
    rows, copies, held_out, options, seed = case
    splits = assign_splits(rows, copies, held_out, options, seed)
    assert len(splits) == len(rows)
    assert set(splits) <= set(STRICTER)
    of: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    split_of = dict(zip((member.key for member in rows), splits, strict=True))
    for member, split in zip(rows, splits, strict=True):
        held = any(map(held_out.holds, member.taxa))
        of["group", member.group].add(split)
        of["file", member.file].add(split)
        # Only others' recordings by a recordist of held-out taxa may be trained on.
        if member.recordist and options.recordists_apart and not held:
            of["recordist", member.recordist].add(split)
        if held or member.names_held_out:
            assert split == "test"
    assert all(len(found) == 1 for found in of.values())
    assert all(split_of[one] == split_of[other] for one, other in copies)


@settings(max_examples=50, deadline=None)
@given(cases(), st.randoms())
def test_the_order_of_recordings_and_copies_does_not_matter(
    case: tuple[list[Member], list[tuple[str, str]], HeldOut, SplitOptions, int], random: object
) -> None:
    rows, copies, held_out, options, seed = case
    splits = dict(
        zip([m.key for m in rows], assign_splits(rows, copies, held_out, options, seed), strict=True)
    )
    order = list(rows)
    random.shuffle(order)  # type: ignore[attr-defined]
    turned = [(other, one) for one, other in reversed(copies)]
    again = assign_splits(order, turned, held_out, options, seed)
    assert dict(zip([m.key for m in order], again, strict=True)) == splits


@settings(max_examples=100, deadline=None)
@given(members(), st.integers(0, 99))
def test_an_archives_own_split_gives_way_to_a_stricter_link_alone(rows: list[Member], seed: int) -> None:
    known = {
        "train": "train",
        "dev": "validation",
        "valid": "validation",
        "test": "test",
        "evaluation": "test",
    }
    stated = [replace(member, names_held_out=False, recordist="") for member in rows]
    splits = assign_splits(stated, [], NOTHING, SplitOptions(), seed)
    for member, split in zip(stated, splits, strict=True):
        wish = known.get(member.archive_split)
        if wish is None:
            continue
        assert STRICTER.index(split) >= STRICTER.index(wish)
        if split != wish:
            linked = {
                known.get(other.archive_split)
                for other, found in zip(stated, splits, strict=True)
                if found == split and other is not member
            }
            assert split in linked


def test_a_link_through_others_joins_too() -> None:
    rows = [
        a_member(0, group="s:a", archive_split="train"),
        a_member(1, group="s:a", file="s:tape.wav"),
        a_member(2, file="s:tape.wav", recordist="s:Jo"),
        a_member(3, recordist="s:Jo"),
        a_member(4, archive_split="test"),
        a_member(5, archive_split="train"),
    ]
    splits = assign_splits(rows, [("s:3", "s:4")], NOTHING, SplitOptions(), 0)
    assert splits == ["test"] * 5 + ["train"]
    apart = SplitOptions(recordists_apart=False, test_share=0.0, validation_share=0.0)
    assert assign_splits(rows, [("s:3", "s:4")], NOTHING, apart, 0) == ["train"] * 3 + ["test"] * 2 + [
        "train"
    ]


def test_archive_splits_can_be_left_to_chance() -> None:
    rows = [a_member(number, archive_split="test") for number in range(50)]
    free = SplitOptions(archive_splits=False, test_share=0.0, validation_share=0.0)
    assert set(assign_splits(rows, [], NOTHING, free, 0)) == {"train"}
    assert set(assign_splits(rows, [], NOTHING, SplitOptions(test_share=0.0), 0)) == {"test"}


def test_shares_by_chance_are_near_what_was_asked() -> None:
    rows = [a_member(number) for number in range(4000)]
    options = SplitOptions(test_share=0.2, validation_share=0.1)
    splits = assign_splits(rows, [], NOTHING, options, 1)
    # Four standard deviations of a binomial of 4,000.
    assert splits.count("test") == pytest.approx(800, abs=4 * (4000 * 0.2 * 0.8) ** 0.5)
    assert splits.count("validation") == pytest.approx(400, abs=4 * (4000 * 0.1 * 0.9) ** 0.5)
    assert assign_splits(rows, [], NOTHING, options, 2) != splits


def test_added_recordings_leave_the_others_where_they_were() -> None:
    rows = [a_member(number, group=f"s:group {number // 3}", recordist="") for number in range(600)]
    options = SplitOptions(test_share=0.2)
    before = assign_splits(rows, [], NOTHING, options, 0)
    strangers = [a_member(number) for number in range(1000, 1400)]
    mixed = assign_splits([*strangers[:200], *rows, *strangers[200:]], [], NOTHING, options, 0)
    assert mixed[200:800] == before
    fellows = [
        a_member(number, group=f"s:group {number - 1000}", recordist="") for number in range(1000, 1200)
    ]
    assert assign_splits([*fellows, *rows], [], NOTHING, options, 0)[200:] == before


def test_a_new_recording_by_a_known_recordist_seldom_moves_the_old_ones() -> None:
    rows = [a_member(number, recordist=f"s:person {number // 10}") for number in range(2000)]
    options = SplitOptions(test_share=0.3)
    before = assign_splits(rows, [], NOTHING, options, 0)
    new = [a_member(number, recordist=f"s:person {number - 5000}") for number in range(5000, 5200)]
    after = assign_splits([*rows, *new], [], NOTHING, options, 0)[:2000]
    # A tenth of the two hundred recordists is drawn anew, of these less than half change their split.
    assert sum(one != other for one, other in zip(before, after, strict=True)) < 0.1 * len(rows)


@pytest.fixture(scope="module")
def built_in() -> Taxonomy:
    return Taxonomy.built_in()


def taxa_of(taxonomy: Taxonomy, *names: str) -> dict[str, set[Taxon]]:
    found = {taxonomy.resolve(name).taxon for name in names}
    assert None not in found
    return {"s": {taxon for taxon in found if taxon is not None}}


def test_held_out_species_are_known_by_any_name(built_in: Taxonomy) -> None:
    there = taxa_of(built_in, "Strix aluco", "Parus major", "Turdus merula")
    for name in ("Strix aluco", "tawny owl", "Syrnium aluco", "STRIX ALUCO Linnaeus, 1758"):
        held_out = choose_held_out(SplitOptions(species=(name,)), built_in, there, 0)
        assert held_out == HeldOut(frozenset({"Strix aluco"}), frozenset(), frozenset())
    named = choose_held_out(SplitOptions(genera=("Turdus",), families=("Paridae",)), built_in, there, 0)
    holds = {taxon.scientific_name: named.holds(taxon) for taxon in there["s"]}
    assert holds == {"Strix aluco": False, "Parus major": True, "Turdus merula": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            SplitOptions(species=("Turdus merulla",)),
            r"'Turdus merulla' is misspelling .*did you mean Turdus merula\?",
        ),
        (
            SplitOptions(species=("robin",)),
            r"'robin' is ambiguous .*Erithacus rubecula, Turdus migratorius\?",
        ),
        (SplitOptions(species=("Qqqq zzzz",)), r"'Qqqq zzzz' is unknown to the taxonomy$"),
        (SplitOptions(species=("Turdus",)), r"'Turdus' is a genus; name it under genera or families"),
        (
            SplitOptions(genera=("Turdis",)),
            r"no recording is of the genus 'Turdis' \(did you mean Turdus\?\)",
        ),
        (
            SplitOptions(genera=("turdus",)),
            r"no recording is of the genus 'turdus' \(did you mean Turdus\?\)",
        ),
        (SplitOptions(families=("Qqqqidae",)), r"no recording is of the family 'Qqqqidae'; correct its name"),
    ],
)
def test_held_out_names_that_are_not_known_are_refused(
    options: SplitOptions, message: str, built_in: Taxonomy
) -> None:
    there = taxa_of(built_in, "Strix aluco", "Turdus merula")
    with pytest.raises(CorpusError, match=message):
        choose_held_out(options, built_in, there, 0)


def many_taxa(count: int) -> set[Taxon]:
    return {
        Taxon(f"G{number // 4} s{number}", genus=f"G{number // 4}", family=f"F{number // 20}idae")
        for number in range(count)
    }


def test_taxa_are_held_out_by_chance_in_their_shares(built_in: Taxonomy) -> None:
    taxa = many_taxa(400)
    options = SplitOptions(species_share=0.1, genera_share=0.1, families_share=0.1)
    held_out = choose_held_out(options, built_in, {"s": taxa}, 0)
    assert len(held_out.families) == 2
    left = [taxon for taxon in taxa if taxon.family not in held_out.families]
    assert len(held_out.genera) == round(0.1 * len({taxon.genus for taxon in left}))
    left = [taxon for taxon in left if taxon.genus not in held_out.genera]
    assert len(held_out.species) == round(0.1 * len(left))
    assert held_out.species <= {taxon.scientific_name for taxon in left}
    assert choose_held_out(options, built_in, {"s": set(taxa)}, 0) == held_out
    assert choose_held_out(options, built_in, {"s": taxa}, 1) != held_out


def test_chance_keeps_to_the_sources_and_ranks_asked_for(built_in: Taxonomy) -> None:
    others = {Taxon("Aves", rank="class"), *(Taxon(f"H h{n}", genus="H") for n in range(50))}
    options = SplitOptions(species_share=0.5, chance_sources=("s",))
    held_out = choose_held_out(options, built_in, {"s": many_taxa(40), "t": others}, 0)
    assert len(held_out.species) == 20
    assert not any(name.startswith("H ") for name in held_out.species)


def test_novelty_is_the_rank_that_training_has_not_heard() -> None:
    minor, major, _, other_genus, *_ = TAXA
    far, unplaced = TAXA[6], Taxon("Nova avis", genus="Nova")
    heard = [(minor,), (minor,), (major,), (other_genus,), (far,), (minor, major), (), (unplaced,)]
    splits = ["train", *["test"] * 7]
    assert novelties(heard, splits) == [
        "seen",
        "seen",
        "unseen-species",
        "unseen-genus",
        "unseen-family",
        "unseen-species",
        "seen",
        "unseen-genus",
    ]
