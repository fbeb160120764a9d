"""Shards: whole or not there, read by every reader that people use, and the library beside them."""

import errno
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from corpora import BLACKBIRD, OWL, RATE, THRUSH, a_pair, chirps, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from naturelm.corpus.activity import Activity
from naturelm.corpus.library import Entry, Library, recording_from_json, recording_to_json, write_library
from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Event, FileSound, Recording, Sound
from naturelm.corpus.schema import Pair
from naturelm.corpus.sounds import sound_from_json, sound_to_json
from naturelm.corpus.sources.naturelm_training import ParquetSound
from naturelm.corpus.starter.fauna_source import FaunaSound
from naturelm.corpus.starter.noise import NoiseSound
from naturelm.corpus.storage import (
    DATA,
    MANIFEST,
    ROWS_PER_GROUP,
    Corpus,
    decode,
    encode_flac,
    read_manifest,
    shard_paths,
    sweep,
    write_shard,
    write_table,
    write_text,
)
from naturelm.errors import NatureLMError

ROWS = 2 * ROWS_PER_GROUP + 13
SHARDS = 2


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    odd = {"output": "Rouge-queue — 北红尾鸲", "options": ("a, b", "c"), "labels": (), "taxa": ()}
    rows = [a_pair(number, samples=chirps(0.3, seed=number)) for number in range(ROWS)]
    return [*rows, a_pair(0, "test", samples=chirps(0.2), **odd)]


@pytest.fixture(scope="module")
def corpus(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("stored") / "corpus", pairs, shards=SHARDS)


@pytest.fixture
def own(pairs: list[Pair], tmp_path: Path) -> Path:
    """A corpus that may be spoilt."""
    return write_corpus(tmp_path / "corpus", pairs[:20], shards=SHARDS)


def stored(pairs: list[Pair]) -> list[Pair]:
    """Training pairs in the order in which they are stored."""
    train = [pair for pair in pairs if pair.split == "train"]
    return [replace(pair, duration=float(np.float32(pair.duration))) for pair in train[::2] + train[1::2]]


def test_pairs_are_read_by_number_and_in_order(corpus: Path, pairs: list[Pair]) -> None:
    data, expected = Corpus(corpus), stored(pairs)
    assert len(data) == ROWS
    assert list(data) == expected
    for row in (0, ROWS - 1, ROWS_PER_GROUP, 3, ROWS - 2, 0):
        assert data[row] == expected[row]
    for row in (-1, ROWS):
        with pytest.raises(IndexError):
            data[row]
    assert [pair.output for pair in Corpus(corpus, "test")] == [pairs[-1].output]
    assert Corpus(corpus, "test")[0] == replace(pairs[-1], duration=float(np.float32(0.2)))


def test_sound_comes_back_as_16_bit(corpus: Path, pairs: list[Pair]) -> None:
    assert decode(Corpus(corpus)[1]) == pytest.approx(chirps(0.3, seed=2), abs=2**-15)
    loud = encode_flac(np.array([2.0, -2.0, 0.5], np.float32))
    heard = decode(replace(pairs[0], audio=loud))
    assert heard == pytest.approx([1, -1, 0.5], abs=2**-14)


def test_a_corpus_can_be_handed_to_another_process(corpus: Path, pairs: list[Pair]) -> None:
    data = Corpus(corpus)
    fresh = len(pickle.dumps(data))
    assert data[5] == stored(pairs)[5]
    # What was read stays behind.
    copied = pickle.dumps(data)
    assert len(copied) == fresh
    again = pickle.loads(copied)  # noqa: S301 - made on the line above
    assert list(again) == stored(pairs)
    assert again.manifest == data.manifest


def identifiers(batch: list[Pair]) -> list[tuple[str, int]]:
    return [(pair.id, len(decode(pair))) for pair in batch]


def test_a_data_loader_with_workers_reads_every_pair_once(corpus: Path, pairs: list[Pair]) -> None:
    data = Corpus(corpus)
    assert data[40].id == stored(pairs)[40].id  # the workers inherit an open file
    loader: DataLoader[Pair] = DataLoader(
        data,  # type: ignore[arg-type]
        batch_size=7,
        num_workers=2,
        collate_fn=identifiers,
    )
    seen = [row for batch in loader for row in batch]
    assert seen == [(pair.id, round(0.3 * RATE)) for pair in stored(pairs)]


def test_pandas_and_polars_read_a_shard(corpus: Path, pairs: list[Pair]) -> None:
    path = shard_paths(corpus, "train")[0]
    frame = pd.read_parquet(path)
    assert list(frame.columns) == [field.name for field in fields(Pair)]
    assert list(frame["id"]) == [pair.id for pair in pairs[:-1:2]]
    assert frame["audio"][0]["bytes"] == pairs[0].audio
    other = pl.read_parquet(path)
    assert other["labels"].to_list() == [list(pair.labels) for pair in pairs[:-1:2]]
    assert other["audio"].struct.field("bytes")[0] == pairs[0].audio
    assert other["duration"].dtype == pl.Float32


def test_datasets_reads_a_corpus(
    corpus: Path, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    files = {split: [str(path) for path in shard_paths(corpus, split)] for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert {split: len(loaded[split]) for split in loaded} == {"train": ROWS, "test": 1}
    features = loaded["train"].features
    assert features["audio"] == datasets.Audio(sampling_rate=RATE, decode=False)
    assert features["labels"] == datasets.List(datasets.Value("string"))
    assert features["duration"] == datasets.Value("float32")
    row = loaded["train"][0]
    assert row["audio"] == {"bytes": pairs[0].audio, "path": pairs[0].file_name}
    assert row["labels"] == list(pairs[0].labels)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "text": ["hello"]}), path)


def gone(path: Path) -> None:
    path.unlink()


def of_another_build(path: Path) -> None:
    path.rename(path.with_name(path.name.replace("00002", "00003")))


def renamed(path: Path) -> None:
    path.rename(path.with_name("train-1.parquet"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"train-00001-of-00002\.parquet: not a readable Parquet file .*; build the corpus again"),
        (emptied, r"train-00001-of-00002\.parquet: not a readable Parquet file"),
        (foreign, r"train-00001-of-00002\.parquet: no column audio, file_name.*not a shard of a corpus"),
        (gone, r"data: train-00001-of-00002\.parquet is missing; build the corpus again"),
        (
            of_another_build,
            r"data: train-00001-of-00003\.parquet is of another build; build the corpus again",
        ),
        (renamed, r"data: train-00001-of-00002\.parquet is missing"),
    ],
)
def test_a_spoilt_shard_is_refused(own: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(shard_paths(own, "train")[1])
    with pytest.raises(CorpusError, match=message):
        Corpus(own)


def test_damage_within_a_shard_is_found_when_its_rows_are_read(own: Path) -> None:
    path = shard_paths(own, "train")[0]
    column = pq.ParquetFile(path).metadata.row_group(0)
    place = next(
        column.column(n)
        for n in range(column.num_columns)
        if column.column(n).path_in_schema == "instruction"
    )
    content = bytearray(path.read_bytes())
    begin = place.data_page_offset
    content[begin : begin + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(content)
    data = Corpus(own)
    with pytest.raises(CorpusError, match=r"train-00000-of-00002\.parquet: rows 0 and on cannot be read"):
        data[0]
    with pytest.raises(CorpusError, match=r"train-00000-of-00002\.parquet: cannot be read"):
        data.table(["instruction"])
    assert data[15].split == "train"  # the other shard is whole


def test_more_columns_than_needed_are_left_alone(own: Path) -> None:
    path = shard_paths(own, "train")[0]
    table = pq.read_table(path)
    pq.write_table(table.append_column("remark", pa.array(["x"] * len(table))), path)
    assert Corpus(own)[0].split == "train"


def test_splits_that_are_not_there_are_refused(own: Path) -> None:
    with pytest.raises(CorpusError, match=r"no split is called 'dev'; there are: train, validation, test"):
        Corpus(own, "dev")
    with pytest.raises(CorpusError, match=r"no shards of the validation split .*is this a finished corpus\?"):
        Corpus(own, "validation")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 99}', "\ud800".encode("utf-16", "surrogatepass").hex()]
)
def test_a_damaged_manifest_is_refused(own: Path, text: str) -> None:
    (own / MANIFEST).write_text(text)
    with pytest.raises(CorpusError, match="build the corpus again"):
        read_manifest(own)


def test_a_missing_manifest_says_that_the_build_was_not_finished(own: Path) -> None:
    (own / MANIFEST).unlink()
    with pytest.raises(CorpusError, match=r"no corpus\.json; .*its build was not finished: run it again"):
        _ = Corpus(own).manifest


def test_an_empty_shard_among_others_is_no_harm(tmp_path: Path, pairs: list[Pair]) -> None:
    for number, rows in enumerate(([], pairs[:2], [], pairs[2:3])):
        write_shard(rows, tmp_path / DATA / f"train-{number:05d}-of-00004.parquet")
    assert [pair.id for pair in Corpus(tmp_path)] == [pair.id for pair in pairs[:3]]


def test_a_file_that_cannot_be_written_leaves_nothing_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[Pair]
) -> None:
    path, note = tmp_path / "train-00000-of-00001.parquet", tmp_path / "corpus.json"
    write_shard(pairs[:1], path)
    write_text(note, "old")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_table(pa.table({"a": [1]}), path)
    with pytest.raises(OSError, match="No space left"):
        write_text(note, "new")
    with pytest.raises(UnicodeEncodeError):
        write_text(note, "\ud800")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_sweep_takes_half_written_files_alone(tmp_path: Path) -> None:
    kept = [".lock", ".git", ".hidden.json", "a.parquet", "a.json.12", ".notes.txt.12"]
    for name in [*kept, ".train-00000-of-00001.parquet.123", ".corpus.json.9", ".taxonomy.csv.77"]:
        (tmp_path / name).write_text("x")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.lists(words, max_size=3).map(tuple)
seconds = st.floats(0, 1e6, allow_nan=False)
sounds: st.SearchStrategy[Sound] = st.one_of(
    st.builds(FileSound, words.map(lambda text: Path("/a") / text.replace("\0", "")), seconds, st.none() | seconds),
    st.builds(ParquetSound, st.just(Path("b/c d.parquet")), st.integers(0, 99), st.integers(0, 99), st.integers(1, 96000)),
    st.builds(
        FaunaSound,
        st.integers(0, 99),
        st.integers(0, 9),
        st.sampled_from(["song", "alarm call"]),
        st.sampled_from(["adult", "nestling"]),
        st.integers(0, 9),
    ),
    st.builds(NoiseSound, st.sampled_from(["wind", "a stream"]), st.integers(0, 99)),
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "sound": sounds,
    "kind": st.sampled_from(["animal", "environment", "speech", "music", "noise"]),
    "events": st.lists(st.builds(Event, seconds, seconds, words), max_size=3).map(tuple),
    "count": st.none() | st.integers(1, 99),
    "pitch": st.none() | st.integers(0, 127),
    "duration": st.none() | seconds,
    **dict.fromkeys(("species", "common_names", "background", "labels", "call_types"), names),
}
recordings = st.fixed_dictionaries(
    {field.name: FIELDS.get(field.name, words) for field in fields(Recording)}
).map(lambda values: Recording(**values))  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(recordings)
def test_every_field_of_a_recording_comes_back(recording: Recording) -> None:
    text = recording_to_json(recording)
    assert "\n" not in text
    assert recording_from_json(text) == recording


@settings(max_examples=20, deadline=None)
@given(st.lists(recordings, max_size=5), st.data())
def test_a_library_gives_its_entries_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Recording], data: st.DataObject
) -> None:
    taxa = [BLACKBIRD, THRUSH, replace(OWL, synonyms=("Syrnium aluco",), other_names=("Brown Owl",))]
    some = st.lists(st.sampled_from(taxa), max_size=2, unique=True).map(tuple)
    entries = [
        Entry(
            recording,
            data.draw(some),
            data.draw(some),
            data.draw(st.sampled_from(["train", "test"])),
            "unseen-genus",
            data.draw(words),
            Activity(np.array([-100, -3, 0], np.int8)),
            1.25,
        )
        for recording in rows
    ]
    path = tmp_path_factory.mktemp("library") / "library.arrow"
    write_library(path, entries, taxa)
    library = Library(path)
    assert len(library) == len(entries)
    for found, entry in zip(library, entries, strict=True):
        assert found.activity.levels.tolist() == entry.activity.levels.tolist()
        assert replace(found, activity=entry.activity) == entry


@dataclass(frozen=True)
class StrangeSound:
    """A kind that the builder does not know."""

    path: Path

    def read(self, start: float = 0.0, end: float | None = None) -> np.ndarray:
        return sf.read(self.path)[0]


def test_unknown_kinds_of_sound_are_refused() -> None:
    with pytest.raises(TypeError, match="StrangeSound is no known kind of sound"):
        sound_to_json(StrangeSound(Path("a")))
    for values in ({"kind": "Popen", "args": "true"}, {"path": "a"}, {"kind": "StrangeSound", "path": "a"}):
        with pytest.raises(NatureLMError, match="is no known kind of sound"):
            sound_from_json(values)


def test_a_file_is_put_in_place_whole(tmp_path: Path) -> None:
    """Whoever reads the old file meanwhile reads it to its end: the new one is another file, renamed."""
    table, text = tmp_path / "rows.parquet", tmp_path / "notes.json"
    write_table(pa.table({"n": [1]}), table)
    write_text(text, "old")
    before = {path: path.read_bytes() for path in (table, text)}
    with table.open("rb") as old_table, text.open("rb") as old_text:
        write_table(pa.table({"n": list(range(5000))}), table)
        write_text(text, "a longer text than before")
        assert old_table.read() == before[table]
        assert old_text.read() == before[text]
    assert pq.read_table(table).num_rows == 5000
    assert text.read_text() == "a longer text than before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.json", "rows.parquet"]
