import dataclasses
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from checking import changed, clean_pairs, failing, only_finding, with_options, write
from corpora import AUDIO_PLACE, RATE, a_pair, chirps

from naturelm.corpus.check import CHECKS, check_corpus
from naturelm.corpus.schema import PAIR_SCHEMA, Pair, pairs_to_table
from naturelm.corpus.storage import DATA, encode_flac


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
