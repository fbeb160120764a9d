import dataclasses
import json
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from corpora import AUDIO_PLACE, BLACKBIRD, RATE, THRUSH, a_pair, chirps, write_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.audio import read_audio
from naturelm.corpus.check import CHECKS, CheckReport, check_corpus
from naturelm.corpus.findings import MOST_KEPT
from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import PAIR_SCHEMA, Pair, pairs_to_table
from naturelm.corpus.storage import DATA, MANIFEST, TAXONOMY, encode_flac, write_shard
from naturelm.corpus.taxonomy import Taxon, Taxonomy

OWL = Taxon(
    "Strix aluco",
    common_name="Tawny Owl",
    genus="Strix",
    family="Strigidae",
    synonyms=("Syrnium aluco",),
    other_names=("brown owl", "owl"),
)
BARN_OWL = Taxon("Tyto alba", common_name="Barn Owl", genus="Tyto", family="Tytonidae")
TAXA = (BLACKBIRD, THRUSH, OWL, BARN_OWL)
HELD_OUT = {"species": ["Strix aluco"], "genera": [], "families": []}


def with_options(pair: Pair, *options: str) -> Pair:
    text = f"Which of these, if any, are present in the audio recording? {', '.join(options)}"
    return dataclasses.replace(
        pair, options=options, instruction_text=text, instruction=AUDIO_PLACE + text, task="detection-options"
    )


def named(pair: Pair, *labels: str) -> Pair:
    return dataclasses.replace(pair, labels=labels, output=", ".join(labels) or "None")


@cache
def made_once() -> tuple[Pair, ...]:
    """Ten rows without a fault: open questions and lists, silence, several animals, synthetic ones, a held-out owl."""
    silence = named(a_pair(3, samples=np.zeros(RATE, np.float32), taxa=()))
    nothing: dict[str, Any] = {"recordings": (), "source_files": (), "groups": (), "recordists": ()}
    invented: dict[str, Any] = {"taxa": ("Fauna inventa",), "recordists": ("synthesiser",)}
    return (
        a_pair(0, samples=chirps(2, seed=0)),
        with_options(a_pair(1, samples=chirps(2, seed=1)), "Song Thrush", "Common Blackbird"),
        with_options(named(a_pair(2, samples=chirps(2, seed=2))), "Barn Owl", "Song Thrush"),
        dataclasses.replace(silence, **nothing),
        named(a_pair(4, samples=chirps(2, seed=4), taxa=("Turdus merula", "Tyto alba")), "Common Blackbird", "Barn Owl"),
        a_pair(5, samples=chirps(2, seed=99), recordings=("fauna:5",), groups=("fauna:5",), **invented),
        a_pair(6, "validation", samples=chirps(2, seed=6)),
        a_pair(7, "test", samples=chirps(2, seed=7)),
        named(a_pair(8, "test", samples=chirps(2, seed=8), taxa=("Strix aluco",), recordists=("Recordist train 0",)), "Owl"),
        a_pair(9, "test", samples=chirps(2, seed=99), recordings=("fauna:9",), groups=("fauna:9",), **invented),
    )  # fmt: skip


def clean_pairs() -> list[Pair]:
    """The clean rows, to be changed."""
    return list(made_once())


def changed(pairs: list[Pair], number: int, **values: object) -> list[Pair]:
    """The pairs, one of them with other values."""
    pairs[number] = dataclasses.replace(pairs[number], **values)  # type: ignore[arg-type]
    return pairs


def write(folder: Path, pairs: list[Pair], **manifest: object) -> Path:
    return write_corpus(folder, pairs, taxa=TAXA, **{"held_out": HELD_OUT, **manifest})  # type: ignore[arg-type]


def failing(report: CheckReport) -> list[str]:
    """Checks that found something; the report must agree with itself."""
    found = [check.name for check in report.checks if check.found]
    assert found == list(dict.fromkeys(finding.check for finding in report.findings))
    assert report.ok == (not found)
    assert all(finding.where and finding.what and finding.cure for finding in report.findings)
    return found


def only_finding(report: CheckReport, check: str) -> str:
    """Where and what of the one finding that there should be."""
    assert failing(report) == [check], report.findings
    (finding,) = report.findings
    return f"{finding.where}: {finding.what}"


def re_encoded(samples: FloatArray, *, gain: float = 0.6, late: float = 0.2) -> FloatArray:
    """The sound after Ogg Vorbis at 44.1 kHz, quieter, and begun a little later."""
    import soxr

    buffer = BytesIO()
    sf.write(buffer, soxr.resample(samples[round(late * RATE) :] * gain, RATE, 44100), 44100, format="OGG")
    return read_audio(buffer.getvalue(), sample_rate=RATE)


def test_a_sound_corpus_has_no_findings(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_corpus(write(tmp_path, clean_pairs(), shards=2), progress=lambda *at: seen.append(at))
    assert report.findings == ()
    assert report.ok and not report.notes
    assert report.rows == {"train": 6, "validation": 1, "test": 3}
    assert [check.name for check in report.checks] == list(CHECKS)
    looked_at = {check.name: check.looked_at for check in report.checks}
    assert looked_at["readable"] == looked_at["apart"] == looked_at["manifest"] == 10
    assert looked_at["held-out"] == 7
    assert looked_at["near-duplicates"] == 7  # neither silence nor synthetic sound
    assert seen[-1] == (10, 10)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_worker_processes_find_the_same(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 7, recordings=("xeno-canto:train0",), groups=("xeno-canto:train0",))
    folder = write(tmp_path, pairs, shards=2)
    assert check_corpus(folder, workers=2) == check_corpus(folder)
    assert failing(check_corpus(folder)) == ["apart"]


# readable


def test_a_row_whose_sound_cannot_be_read(tmp_path: Path) -> None:
    found = only_finding(
        check_corpus(write(tmp_path, changed(clean_pairs(), 1, audio=b"not a FLAC file"))), "readable"
    )
    assert found.startswith("train-00000-of-00001.parquet row 1 (pair-train-0001): ")


@pytest.mark.parametrize(
    "values",
    [
        {"duration": 2.02},
        {"duration": float("nan")},
        {"metadata": "not JSON"},
        {"metadata": "[" * 100_000},
        {"metadata": "[]"},
        {"audio": encode_flac(chirps(2, seed=0))[:-4000]},
    ],
)
def test_a_row_that_is_not_what_it_says(tmp_path: Path, values: dict[str, object]) -> None:
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, **values))), "readable")


@pytest.mark.parametrize(
    ("rate", "channels", "kind"), [(44100, 1, "FLAC"), (RATE, 2, "FLAC"), (RATE, 1, "WAV")]
)
def test_sound_of_another_kind(tmp_path: Path, rate: int, channels: int, kind: str) -> None:
    buffer = BytesIO()
    sf.write(buffer, np.tile(chirps(2, seed=0)[:, None], channels), rate, format=kind)
    values = {"audio": buffer.getvalue(), "duration": 2 * RATE / rate}
    only_finding(check_corpus(write(tmp_path, changed(clean_pairs(), 0, **values))), "readable")


def test_a_truncated_shard_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    pairs = changed(clean_pairs(), 7, license=" ")
    folder = write(tmp_path, pairs, shards=2)
    path = folder / DATA / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    report = check_corpus(folder)
    assert failing(report) == ["readable", "manifest"]
    assert [finding.where.split()[0] for finding in report.findings] == [
        path.name,
        "test-00000-of-00002.parquet",
    ]
    assert report.rows["train"] == 3
    assert report.notes == ("rows of the train split were not counted, since some cannot be read",)


def test_damage_inside_a_shard_leaves_the_other_rows(tmp_path: Path) -> None:
    pairs = [a_pair(number, samples=chirps(0.3, seed=number)) for number in range(40)]
    folder = write(tmp_path, pairs)
    path = folder / DATA / "train-00000-of-00001.parquet"
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(bytes(content))
    report = check_corpus(folder)
    assert only_finding(report, "readable").startswith("train-00000-of-00001.parquet rows 32 to 39: ")
    assert report.rows == {"train": 32}


def test_a_row_with_gaps(tmp_path: Path) -> None:
    folder = write(tmp_path, clean_pairs())
    path = folder / DATA / "train-00000-of-00001.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[2]["output"] = None
    rows[2]["taxa"] = ["Turdus merula", None]
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA), path)
    report = check_corpus(folder)
    assert only_finding(report, "readable") == f"{path.name} row 2: nothing stands in output, taxa"
    assert report.rows["train"] == 5


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = write(tmp_path, clean_pairs())
    path = folder / DATA / "train-00000-of-00001.parquet"
    table = pairs_to_table([pair for pair in clean_pairs() if pair.split == "train"])
    outputs = [b"\xff\xfe" if number == 1 else b"Common Blackbird" for number in range(len(table))]
    texts = pa.Array.from_buffers(pa.string(), len(table), pa.array(outputs, pa.binary()).buffers())
    table = table.set_column(table.schema.get_field_index("output"), PAIR_SCHEMA.field("output"), texts)
    pq.write_table(table, path)
    report = check_corpus(folder)
    assert [finding.where for finding in report.findings if finding.check == "readable"] == [
        f"{path.name} row 1"
    ]


def test_a_shard_without_a_column_and_one_of_another_schema(tmp_path: Path) -> None:
    folder = write(tmp_path, clean_pairs())
    train, test = (folder / DATA / f"{split}-00000-of-00001.parquet" for split in ("train", "test"))
    pq.write_table(pq.read_table(train).drop_columns(["groups"]), train)
    table = pq.read_table(test)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"naturelm_schema": b"9"}), test)
    report = check_corpus(folder)
    assert failing(report) == ["readable"]
    assert [finding.what.split(";")[0] for finding in report.findings] == [
        "no column groups",
        "its schema is version 9, not 1",
    ]


def test_shards_that_are_missing_or_do_not_belong(tmp_path: Path) -> None:
    folder = write(tmp_path, clean_pairs(), shards=3)
    (folder / DATA / "train-00001-of-00003.parquet").unlink()
    (folder / DATA / "test-00000-of-00003.parquet").rename(folder / DATA / "test-copy.parquet")
    report = check_corpus(folder)
    assert failing(report) == ["readable"]
    assert [finding.where for finding in report.findings] == [
        "test-copy.parquet",
        "train-00001-of-00003.parquet",
        "test-00000-of-00003.parquet",
    ]


# sound


@pytest.mark.parametrize("level", [0.0, 0.0005, -0.5])
def test_a_label_without_sound(tmp_path: Path, level: float) -> None:
    samples = np.full(2 * RATE, level, np.float32)
    only_finding(
        check_corpus(write(tmp_path, changed(clean_pairs(), 0, audio=encode_flac(samples)))), "sound"
    )


def test_a_faint_call_is_sound(tmp_path: Path) -> None:
    audio = encode_flac(chirps(2, seed=0) * 0.01)
    assert check_corpus(write(tmp_path, changed(clean_pairs(), 0, audio=audio))).ok


# answers


@pytest.mark.parametrize(
    "plant",
    [
        lambda pair: with_options(pair, "Song Thrush", "Barn Owl"),  # the answer is not offered
        lambda pair: with_options(pair, "Common Blackbird", "Song Thrush", "common blackbird"),
        lambda pair: dataclasses.replace(pair, options=("Common Blackbird", "Song Thrush")),  # not asked
        lambda pair: dataclasses.replace(pair, output=""),
        lambda pair: dataclasses.replace(pair, output="Song Thrush"),
        lambda pair: dataclasses.replace(pair, labels=()),
        lambda pair: dataclasses.replace(pair, instruction=pair.instruction_text),
        lambda pair: dataclasses.replace(pair, instruction=2 * AUDIO_PLACE + pair.instruction_text),
        lambda pair: dataclasses.replace(pair, instruction=AUDIO_PLACE + "What is it?"),
        lambda pair: dataclasses.replace(pair, instruction_text=""),
    ],
)
def test_a_wrong_answer_or_list_of_options(tmp_path: Path, plant: Callable[[Pair], Pair]) -> None:
    pairs = clean_pairs()
    pairs[0] = dataclasses.replace(plant(pairs[0]), task="species-common")
    assert failing(check_corpus(write(tmp_path, pairs))) == ["answers"]


# ids


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
