import dataclasses
import json
from pathlib import Path

import pytest
from checking import (
    HELD_OUT,
    OWL,
    TAXA,
    changed,
    clean_pairs,
    failing,
    named,
    only_finding,
    re_encoded,
    with_options,
    write,
)
from corpora import RATE, a_pair, chirps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.corpus.check import check_corpus
from naturelm.corpus.findings import MOST_KEPT
from naturelm.corpus.options import CorpusError
from naturelm.corpus.storage import DATA, MANIFEST, TAXONOMY, encode_flac, write_shard
from naturelm.corpus.taxonomy import Taxonomy


def test_an_id_used_twice_is_found_over_shards_and_splits(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 7, id="pair-train-0000")
    found = only_finding(check_corpus(write(tmp_path, pairs, shards=2)), "ids")
    assert "train-00000-of-00002.parquet row 0" in found


# apart


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("recordings", "xeno-canto:train0", "recording"),
        ("source_files", "xeno-canto:train/0.ogg", "source file"),
        ("groups", "xeno-canto:train0", "group"),
        ("recordists", "Recordist train 0", "recordist"),
    ],
)
@pytest.mark.parametrize("number", [6, 7])
def test_what_is_in_train_and_elsewhere(
    tmp_path: Path, column: str, value: str, kind: str, number: int
) -> None:
    found = only_finding(
        check_corpus(write(tmp_path, changed(clean_pairs(), number, **{column: (value,)}))), "apart"
    )
    assert f"its {kind} " in found
    assert "is in train as well: train-00000-of-00001.parquet row 0 (pair-train-0000)" in found


def test_a_whole_recording_of_the_test_split_in_train_is_one_finding(tmp_path: Path) -> None:
    pairs = clean_pairs()
    copied = ("audio", "recordings", "source_files", "groups", "recordists")
    pairs = changed(pairs, 0, **{name: getattr(pairs[7], name) for name in copied})
    assert "its recording xeno-canto:test7" in only_finding(check_corpus(write(tmp_path, pairs)), "apart")


def test_noise_is_kept_apart_too(tmp_path: Path) -> None:
    pairs = clean_pairs()
    for number in (4, 6):
        pair = pairs[number]
        noise = {
            name: (*getattr(pair, name), f"esc50:rain{extra}")
            for name, extra in (("recordings", ""), ("source_files", ".wav"), ("groups", ""))
        }
        pairs = changed(pairs, number, **noise, recordists=(*pair.recordists, ""))
    assert "its recording esc50:rain is in train as well" in only_finding(
        check_corpus(write(tmp_path, pairs)), "apart"
    )


def test_validation_is_apart_from_test(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 7, groups=("xeno-canto:validation6",))
    assert "is in validation as well" in only_finding(check_corpus(write(tmp_path, pairs)), "apart")


def test_recordists_may_be_in_both_where_the_corpus_does_not_claim_otherwise(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 7, recordists=("Recordist train 0",))
    assert check_corpus(write(tmp_path, pairs, recordists_apart=False)).ok


def test_recordists_of_one_name_in_two_archives_are_two(tmp_path: Path) -> None:
    values = {"recordings": ("inaturalist:7",), "recordists": ("Recordist train 0",)}
    assert check_corpus(write(tmp_path, changed(clean_pairs(), 7, **values))).ok


def test_the_group_of_a_held_out_recording_is_kept_apart(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 8, groups=("xeno-canto:train0",))
    assert "its group " in only_finding(check_corpus(write(tmp_path, pairs)), "apart")


def test_sound_that_is_from_nowhere(tmp_path: Path) -> None:
    nothing: dict[str, object] = {"recordings": (), "source_files": (), "groups": (), "recordists": ()}
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, **nothing))), "apart")
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, groups=()))), "apart")
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, groups=("",)))), "apart")


# held-out


@pytest.mark.parametrize(
    "name", ["Strix aluco", "Syrnium aluco", "tawny owl", "Tawny-Owl", "Strix aluco Linnaeus, 1758"]
)
@pytest.mark.parametrize("number", [0, 6])
def test_a_held_out_species_under_any_name(tmp_path: Path, name: str, number: int) -> None:
    found = only_finding(
        check_corpus(write(tmp_path, changed(clean_pairs(), number, taxa=(name,)))), "held-out"
    )
    assert "Strix aluco is held out" in found


def test_a_held_out_species_under_a_synonym_that_only_a_given_taxonomy_knows(tmp_path: Path) -> None:
    folder = write(tmp_path, changed(clean_pairs(), 0, taxa=("Ulula noctivaga",)))
    assert check_corpus(folder).ok
    given = Taxonomy.from_taxa([*TAXA[:2], dataclasses.replace(OWL, synonyms=("Ulula noctivaga",))])
    assert failing(check_corpus(folder, taxonomy=given)) == ["held-out"]


@pytest.mark.parametrize(
    "held_out", [{"genera": ["Strix"]}, {"families": ["Strigidae"]}, {"species": ["Tawny Owl"]}]
)
def test_a_species_of_a_held_out_genus_or_family(tmp_path: Path, held_out: dict[str, object]) -> None:
    pairs = changed(clean_pairs(), 0, taxa=("Strix aluco",))
    assert failing(check_corpus(write(tmp_path, pairs, held_out=held_out))) == ["held-out"]


@pytest.mark.parametrize(
    "text",
    [
        "A tawny owl hoots twice.",
        "Two Tawny Owls call.",
        "Chordata Aves Strigiformes Strigidae Strix aluco",
        "A barn owl, then an owl.",
        "Brown-owl",
    ],
)
def test_a_caption_or_answer_that_names_a_held_out_species(tmp_path: Path, text: str) -> None:
    pairs = clean_pairs()
    pairs[0] = named(pairs[0], text)
    only_finding(check_corpus(write(tmp_path, pairs)), "held-out")


@pytest.mark.parametrize(
    "text", ["A barn owl screeches.", "Barn owls", "An owlet begs.", "Bowl", "The bird calls."]
)
def test_a_longer_name_or_word_is_no_held_out_name(tmp_path: Path, text: str) -> None:
    pairs = clean_pairs()
    pairs[0] = named(pairs[0], text)
    assert check_corpus(write(tmp_path, pairs)).ok


def test_an_option_that_names_a_held_out_species(tmp_path: Path) -> None:
    pairs = clean_pairs()
    pairs[1] = with_options(pairs[1], "Common Blackbird", "Tawny Owl")
    only_finding(check_corpus(write(tmp_path, pairs)), "held-out")


@pytest.mark.parametrize(
    ("held_out", "text", "names"),
    [
        ({"genera": ["Strix"]}, "Strix", True),
        ({"families": ["Strigidae"]}, "strigidae", True),
        ({"families": ["Strigidae"]}, "A bird, not of the Strigidae, sings.", False),
        ({"species": ["Strix aluco"]}, "Strigidae", False),
    ],
)
def test_a_genus_or_family_is_named_only_as_an_answer(
    tmp_path: Path, held_out: dict[str, object], text: str, names: bool
) -> None:
    pairs = clean_pairs()
    pairs[0] = named(pairs[0], text)
    assert failing(check_corpus(write(tmp_path, pairs, held_out=held_out))) == (["held-out"] if names else [])


def test_a_held_out_species_that_no_taxonomy_knows_is_noted(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        changed(clean_pairs(), 0, taxa=("Ulula noctivaga",)),
        held_out={"species": ["Strix aluco", "Ulula noctivaga"]},
    )
    report = check_corpus(folder)
    assert failing(report) == ["held-out"]
    assert "Ulula noctivaga is unknown to the taxonomy" in report.notes[0]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.sampled_from(["", "a ", "there a ", "song thrush, "]),
    name=st.sampled_from([OWL.scientific_name, OWL.common_name, *OWL.synonyms, *OWL.other_names]),
    after=st.sampled_from(["", ".", " calls", ", song thrush"]),
    upper=st.booleans(),
)
def test_every_name_is_found_wherever_it_stands(before: str, name: str, after: str, upper: bool) -> None:
    from naturelm.corpus.held_out import HeldOutNames

    names = HeldOutNames(HELD_OUT, Taxonomy.from_taxa(TAXA))
    text = before + (name.upper() if upper else name) + after
    assert names.of_text(text) == "Strix aluco"
    assert names.of_text(text.replace(name.upper() if upper else name, "barn owl")) == ""


# near-duplicates


def test_the_same_sound_under_another_name(tmp_path: Path) -> None:
    samples = re_encoded(chirps(2, seed=0))
    values = {"audio": encode_flac(samples), "duration": len(samples) / RATE}
    found = only_finding(
        check_corpus(write(tmp_path, changed(clean_pairs(), 7, **values))), "near-duplicates"
    )
    assert found.startswith("test-00000-of-00001.parquet row 0 (pair-test-0007): shares ")
    assert "train-00000-of-00001.parquet row 0 (pair-train-0000)" in found


def test_a_copy_too_short_for_a_fingerprint(tmp_path: Path) -> None:
    values = {"audio": encode_flac(chirps(0.4, seed=0)), "duration": 0.4}
    pairs = changed(changed(clean_pairs(), 0, **values), 7, **values)
    assert "every sample" in only_finding(check_corpus(write(tmp_path, pairs)), "near-duplicates")


def test_near_duplicates_are_left_out_when_not_asked_for(tmp_path: Path) -> None:
    pairs = clean_pairs()
    report = check_corpus(write(tmp_path, changed(pairs, 7, audio=pairs[0].audio)), near_duplicates=False)
    assert report.ok
    assert "near-duplicates" not in [check.name for check in report.checks]


# manifest


def test_counts_that_are_not_those_of_the_rows(tmp_path: Path) -> None:
    counts = {"train": {"species-common": 99, "detection-options": 2}, "validation": {"species-common": 1}}
    report = check_corpus(write(tmp_path, clean_pairs(), counts=counts))
    assert failing(report) == ["manifest"]
    assert [finding.what for finding in report.findings] == [
        "says 99 pairs of species-common in train, but there are 4",
        "says 0 pairs of species-common in test, but there are 3",
    ]


def test_a_row_in_a_shard_of_another_split_leaks_by_the_shard_that_it_is_in(tmp_path: Path) -> None:
    pairs = clean_pairs()
    folder = write(tmp_path, pairs)
    stray = dataclasses.replace(pairs[7], id="stray")
    counts = {"train": {"species-common": 5, "detection-options": 2}}
    write_shard([*pairs[:6], stray], folder / DATA / "train-00000-of-00001.parquet")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["counts"] |= counts
    (folder / MANIFEST).write_text(json.dumps(manifest))
    report = check_corpus(folder)
    assert failing(report) == ["apart", "manifest"]
    assert "its split column says 'test' in a shard of train" in [finding.what for finding in report.findings]


def test_a_row_without_a_licence(tmp_path: Path) -> None:
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, license=""))), "manifest")


def test_a_damaged_taxonomy_is_a_finding(tmp_path: Path) -> None:
    folder = write(tmp_path, clean_pairs())
    (folder / TAXONOMY).write_text("scientific_name,rank\nStrix aluco,no rank\n")
    assert only_finding(check_corpus(folder), "manifest").startswith("taxonomy.csv: ")


# what stops a check


def test_a_folder_that_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        check_corpus(tmp_path / "nowhere")
    folder = write(tmp_path / "another", clean_pairs(), schema=9)
    with pytest.raises(CorpusError, match="another version"):
        check_corpus(folder)
    folder = write(tmp_path / "bare", [])
    with pytest.raises(CorpusError, match="no shards"):
        check_corpus(folder)
    folder = write(tmp_path / "strange", clean_pairs(), held_out=["Strix aluco"])
    with pytest.raises(CorpusError, match="held_out"):
        check_corpus(folder)


def test_findings_are_counted_beyond_those_that_are_kept_and_show_no_control_characters(
    tmp_path: Path,
) -> None:
    pairs = [
        a_pair(number, samples=chirps(0.1, seed=number), id=f"\x1b[31m{number}\n", license="")
        for number in range(MOST_KEPT + 5)
    ]
    report = check_corpus(write(tmp_path, pairs))
    assert {check.name: check.found for check in report.checks}["manifest"] == MOST_KEPT + 5
    assert len(report.findings) == MOST_KEPT
    assert all(finding.where.isprintable() for finding in report.findings)
