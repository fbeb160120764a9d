"""Counts of a corpus: exact on small ones, true to a plain count on any, and drawn."""

import csv
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpora import OWL, THRUSH, a_pair, write_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.corpus.options import CorpusError
from naturelm.corpus.stats import Breakdown, Group, corpus_statistics, write_csv_tables
from naturelm.corpus.stats_plot import plot_statistics

SHORT = np.full(1600, 0.1, np.float32)


def groups(table: Breakdown) -> dict[tuple[str, ...], Group]:
    return {group.key: group for group in table.groups}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    listed = {"task": "listed", "options": ("Song Thrush", "Tawny Owl"), "source_dataset": "esc50+fauna"}
    rows = [
        a_pair(0),
        a_pair(1, file_name="pair-train-0000.flac", recordings=("xeno-canto:train0",), task="caption"),
        a_pair(2, output="Song Thrush", labels=("Song Thrush",), taxa=("Turdus philomelos",), **listed),
        a_pair(3, output="None", labels=(), taxa=(), **listed),
        a_pair(4, output="Wren", labels=("Wren",), taxa=(), **listed),
        a_pair(5, "test", taxa=("Strix aluco", "Turdus merula", "Strix aluco"), license="CC0-1.0"),
    ]
    return write_corpus(tmp_path / "corpus", rows, shards=2)


def test_pairs_clips_hours_and_recordings(corpus: Path) -> None:
    found = corpus_statistics(corpus)
    # Two pairs ask about one clip, of one recording.
    assert (found.total.pairs, found.total.clips, found.total.recordings) == (6, 5, 5)
    assert found.total.hours == pytest.approx(5 / 3600)
    sources = groups(found.sources)
    assert set(sources) == {("train", "xeno-canto"), ("train", "esc50+fauna"), ("test", "xeno-canto")}
    shared = sources["train", "xeno-canto"]
    assert (shared.pairs, shared.clips, shared.recordings) == (2, 1, 1)
    assert shared.hours == pytest.approx(1 / 3600)
    assert [group.key[0] for group in found.sources.groups] == ["train", "train", "test"]
    assert {key: of.pairs for key, of in groups(found.licenses).items()} == {
        ("CC-BY-4.0",): 5,
        ("CC0-1.0",): 1,
    }


def test_taxa_have_their_common_names_and_are_counted_once_a_pair(corpus: Path) -> None:
    taxa = groups(corpus_statistics(corpus).taxa)
    assert {key: of.pairs for key, of in taxa.items()} == {
        ("Turdus merula", "Common Blackbird"): 3,
        ("Turdus philomelos", "Song Thrush"): 1,
        ("Strix aluco", "Tawny Owl"): 1,
    }
    assert taxa["Turdus merula", "Common Blackbird"].clips == 2
    (corpus / "taxonomy.csv").unlink()
    assert ("Strix aluco", "") in groups(corpus_statistics(corpus).taxa)


def test_answers_and_the_place_of_the_right_option(corpus: Path) -> None:
    answers = {of.task: of for of in corpus_statistics(corpus).answers}
    listed = answers["listed"]
    assert (listed.pairs, listed.different, listed.none_share) == (3, 3, pytest.approx(1 / 3))
    assert (listed.option_lists, listed.right_places, listed.unplaced) == (3, (1, 0), 1)
    assert listed.expected_places == (0.5, 0.5)
    assert answers["species-common"].frequent == (("Common Blackbird", 2),)
    assert answers["species-common"].right_places == ()


def test_one_split_and_the_most_frequent_answers(tmp_path: Path) -> None:
    outputs = ["b", "a", "a", "c", "c", "c", "None"]
    rows = [a_pair(n, samples=SHORT, output=output) for n, output in enumerate(outputs)]
    corpus = write_corpus(tmp_path, [*rows, a_pair(9, "test", samples=SHORT, output="b")])
    (train,) = corpus_statistics(corpus, split="train", frequent=2).answers
    assert (train.pairs, train.different, train.frequent) == (7, 4, (("c", 3), ("a", 2)))
    (both,) = corpus_statistics(corpus, frequent=3).answers
    assert Counter(dict(both.frequent)) == {"c": 3, "a": 2, "b": 2}


NAMES = st.sampled_from(["a", "b", "c", "ä, ö"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "split": st.sampled_from(["train", "validation", "test"]),
            "source_dataset": NAMES,
            "task": NAMES,
            "license": NAMES,
            "output": NAMES,
            "file_name": NAMES,
            "taxa": st.lists(NAMES, max_size=3).map(tuple),
            "recordings": st.lists(NAMES, max_size=3).map(tuple),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS)
def test_counts_are_those_of_a_plain_count(rows: list[dict]) -> None:
    # A clip is as long as its name says, so that all pairs about it agree.
    lengths = {"a": 0.5, "b": 1.0, "c": 2.0, "ä, ö": 4.0}
    pairs = [
        a_pair(n, samples=SHORT, **{**row, "duration": lengths[row["file_name"]]})
        for n, row in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = corpus_statistics(write_corpus(Path(folder), pairs), frequent=100)
    keys = {
        "sources": lambda row: {(row["split"], row["source_dataset"])},
        "tasks": lambda row: {(row["task"],)},
        "taxa": lambda row: {(name, "") for name in row["taxa"]},
        "licenses": lambda row: {(row["license"],)},
    }
    for table in found.breakdowns:
        for group in table.groups:
            members = [row for row in rows if group.key in keys[table.name](row)]
            clips = {row["file_name"] for row in members}
            heard = {name for row in members for name in row["recordings"]}
            assert (group.pairs, group.clips, group.recordings) == (len(members), len(clips), len(heard))
            assert group.hours * 3600 == pytest.approx(sum(lengths[clip] for clip in clips))
        assert {group.key for group in table.groups} == {key for row in rows for key in keys[table.name](row)}
    for of in found.answers:
        assert Counter(dict(of.frequent)) == Counter(row["output"] for row in rows if row["task"] == of.task)


def test_tables_as_json_and_csv_say_the_same(corpus: Path, tmp_path: Path) -> None:
    found = corpus_statistics(corpus)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["total"]["pairs"] == 6
    paths = {path.stem: path for path in write_csv_tables(found, tmp_path / "new" / "tables")}
    for name in ("sources", "tasks", "taxa", "licenses"):
        with paths[name].open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows == [{key: str(value) for key, value in row.items()} for row in values[name]]
    with paths["option_places"].open(encoding="utf-8", newline="") as file:
        assert [row["right"] for row in csv.DictReader(file)] == ["1", "0"]


def test_plots_are_pictures(corpus: Path, tmp_path: Path) -> None:
    found = corpus_statistics(corpus)
    for suffix, start in {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}.items():
        path = tmp_path / f"plot{suffix}"
        plot_statistics(found, path)
        assert path.read_bytes().startswith(start)
    svg = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert "Common Blackbird (Turdus merula)" in svg and "esc50+fauna" in svg
    with pytest.raises(CorpusError, match=r"plot\.xyz.*\.png, \.svg, \.pdf"):
        plot_statistics(found, tmp_path / "plot.xyz")
    with pytest.raises(CorpusError, match="no-folder"):
        plot_statistics(found, tmp_path / "no-folder" / "plot.png")


def test_names_with_mathematics_are_drawn_as_they_are(tmp_path: Path) -> None:
    rows = [a_pair(0, samples=SHORT, task=r"$\frac{", source_dataset="$x_1$", taxa=("a$b$",))]
    plot_statistics(corpus_statistics(write_corpus(tmp_path, rows, name="$^")), tmp_path / "plot.svg")
    assert r"$\frac{" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_what_is_not_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not a corpus"):
        corpus_statistics(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", [a_pair(0, samples=SHORT)], taxa=(OWL, THRUSH))
    with pytest.raises(CorpusError, match="no shards of the test split"):
        corpus_statistics(corpus, split="test")
    missing = write_corpus(
        tmp_path / "missing", [a_pair(0, samples=SHORT)], counts={"train": {}, "test": {"x": 1}}
    )
    with pytest.raises(CorpusError, match="no shards of the test split"):
        corpus_statistics(missing)
    soundfile.write(corpus / "data" / "train-00001-of-00002.parquet", SHORT, 16_000, format="WAV")
    with pytest.raises(CorpusError, match=r"train-00001-of-00002\.parquet"):
        corpus_statistics(corpus)
