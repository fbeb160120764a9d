"""A build gives the same bytes whatever happens, and takes care of what lies in its folder."""

import json
import os
import shutil
from pathlib import Path

import filelock
import pytest
from builds import BIRDS, TABLES, all_pairs, birds, build_apart, causes, places, small_options, written

from naturelm.corpus.build import BuildReport, build_corpus
from naturelm.corpus.check import check_corpus
from naturelm.corpus.options import CorpusError
from naturelm.corpus.storage import DATA, MANIFEST, Corpus, decode

TRAIN, TEST = 26, 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "archive"
    places(folder / "esc50")
    birds(folder / "birds")
    return folder


@pytest.fixture(scope="module")
def report(archive: Path) -> BuildReport:
    return build_corpus(small_options(archive), archive.parent / "corpus", workers=1)


@pytest.fixture(scope="module")
def corpus(report: BuildReport) -> Path:
    return report.folder


def test_a_build_makes_what_its_shares_ask_for(report: BuildReport, corpus: Path) -> None:
    counts = {"train": {"detection-options": 6, "environment": 6, "species-common": 14}}
    assert report.pairs == counts | {"test": {"species-scientific": 4}}
    assert len(Corpus(corpus, "train")) == TRAIN
    assert len(Corpus(corpus, "test")) == TEST
    shards = sorted(path.name for path in (corpus / DATA).iterdir())
    assert shards == ["test-00000-of-00001.parquet", *(f"train-{n:05d}-of-00004.parquet" for n in range(4))]
    assert sorted(written(corpus)) == sorted([*TABLES, *(f"{DATA}/{name}" for name in shards)])
    assert causes(corpus) == {}
    assert report.failures == report.unknown_taxa == 0


def test_pairs_are_about_their_recordings(archive: Path, corpus: Path) -> None:
    for pair in Corpus(corpus, "train"):
        assert pair.instruction.startswith("<Audio><AudioHere></Audio> ")
        clip = decode(pair)
        assert 0 < len(clip) <= 2 * 16_000
        assert pair.duration == pytest.approx(len(clip) / 16_000)
        assert len(pair.recordings) == len(pair.source_files) == len(pair.groups) == len(pair.recordists)
        for file in pair.source_files:
            source, _, name = file.partition(":")
            assert (archive / ("birds" if source == "folder" else source) / name).is_file()
            if source == "folder":
                assert Path(name).parent.name.replace("-", " ") in pair.taxa
    identifiers = [pair.id for split in ("train", "test") for pair in Corpus(corpus, split)]
    assert len(set(identifiers)) == TRAIN + TEST


def test_held_out_species_and_archive_splits_are_kept(corpus: Path) -> None:
    table = all_pairs(corpus).to_pylist()
    held_out = [row for row in table if "Strix aluco" in row["taxa"]]
    assert held_out
    assert {row["split"] for row in held_out} == {"test"}
    told = {f"folder:{bird.replace(' ', '-')}/3.wav" for bird in BIRDS[:3]}
    for row in table:
        assert row["split"] == "test" or not told & set(row["source_files"])
    manifest = json.loads((corpus / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["held_out"]["species"] == ["Strix aluco"]
    assert manifest["licenses"]["folder"] == {"CC-BY-4.0": 24}


def test_the_same_bytes_from_elsewhere_and_with_two_workers(
    archive: Path, corpus: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(archive, tmp_path / "moved")
    again = build_corpus(small_options(moved), tmp_path / "again", workers=2)
    assert written(again.folder) == written(corpus)


def test_a_finished_corpus_is_not_built_again(archive: Path, corpus: Path, report: BuildReport) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*.parquet")}
    stages: list[str] = []
    again = build_corpus(
        small_options(archive), corpus, progress=lambda stage, _done, _total: stages.append(stage)
    )
    assert not stages
    assert again.pairs == report.pairs
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*.parquet")} == before


def test_other_options_are_refused_and_fresh_begins_anew(archive: Path, corpus: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    own = {"notes.md": "mine", "labels.csv": "a,b", "settings.json": "{}", "photo.png": "x"}
    for name, text in own.items():
        (folder / name).write_text(text)
    other = small_options(archive, seed=4)
    kept = written(folder)
    with pytest.raises(CorpusError, match=r"other options.*--fresh"):
        build_corpus(other, folder)
    assert written(folder) == kept
    build_corpus(other, folder, fresh=True)
    files = written(folder)
    assert {name: (folder / name).read_text() for name in own} == own
    assert set(files) == set(kept)
    shards = [name for name in files if name.startswith(DATA)]
    assert not any(files[name] == kept[name] for name in shards)
    with pytest.raises(CorpusError, match="other options"):
        build_corpus(small_options(archive), folder)


def test_a_fresh_build_that_was_stopped_early_leaves_no_finished_corpus(
    archive: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(corpus, tmp_path / "corpus")

    def stop(_stage: str, _done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(small_options(archive), folder, fresh=True, progress=stop)
    assert not (folder / MANIFEST).exists()
    assert not list((folder / DATA).glob("*.parquet"))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_with_other_files_is_refused(archive: Path, tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / DATA).mkdir()
    (tmp_path / DATA / "train-00000-of-00001.parquet").write_bytes(b"someone's")
    with pytest.raises(CorpusError, match=r"not empty, and not a corpus \(data is there\)"):
        build_corpus(small_options(archive), tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / DATA / "train-00000-of-00001.parquet").read_bytes() == b"someone's"


def test_only_one_build_works_in_a_folder(archive: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(_stage: str, _done: int, _total: int | None) -> None:
        with pytest.raises(CorpusError) as error:
            build_corpus(small_options(archive), tmp_path)
        refused.append(str(error.value))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(small_options(archive), tmp_path, progress=second)
    assert refused == [f"{tmp_path}: another build is at work here; wait for it, or give another folder"]
    with filelock.FileLock(tmp_path / ".lock", timeout=0):
        pass  # given back


def test_a_place_where_no_folder_can_be_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "corpus"):
        with pytest.raises(CorpusError, match=r"cannot be written to .*; give another folder"):
            build_corpus(small_options(archive), place)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything can be written to by root")
def test_a_folder_that_may_not_be_written_to_is_refused(archive: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for place in (tmp_path, tmp_path / "corpus"):
        with pytest.raises(CorpusError, match=r"cannot be written to \(Permission denied\)"):
            build_corpus(small_options(archive), place)
    tmp_path.chmod(0o700)


def test_a_damaged_mark_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(CorpusError, match=r"build\.json: damaged .*--fresh"):
        build_corpus(small_options(archive), tmp_path)


def test_a_full_disk_stops_the_build_and_it_goes_on_to_the_same_bytes(
    archive: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    # 3 kB: not even the recordings can be noted. 100 kB: it is the shards that do not fit.
    for largest, reached in ((3_000, "work/build"), (100_000, "work/library.arrow")):
        status, _, said = build_apart(archive, folder, largest=largest)
        assert status == 1, said
        assert said.startswith(f"{folder}: the disk is full ("), said
        assert said.endswith("; free some space, and run the same command again to go on\n")
        assert said.count("\n") == 1
        assert not (folder / MANIFEST).exists()
        assert reached == "work/build" or (folder / reached).is_file()
        assert not list(folder.rglob(".*.parquet.*"))
    build_corpus(small_options(archive), folder, workers=2)
    assert written(folder) == written(corpus)


def test_what_lies_in_the_way_is_named(archive: Path, tmp_path: Path) -> None:
    def stop(_stage: str, _done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(small_options(archive), tmp_path, progress=stop)
    (tmp_path / DATA).write_text("in the way")
    with pytest.raises(CorpusError, match=r"data: File exists; mend this, and run the same command again"):
        build_corpus(small_options(archive), tmp_path)
    assert (tmp_path / DATA).read_text() == "in the way"


def test_a_built_corpus_passes_its_check(corpus: Path) -> None:
    report = check_corpus(corpus)
    assert report.ok, report


def test_datasets_opens_the_folder_by_its_card(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(str(corpus), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": TRAIN, "test": TEST}
    pair = Corpus(corpus, "train")[0]
    row = loaded["train"][0]
    assert row["audio"] == {"bytes": pair.audio, "path": pair.file_name}
    assert (row["id"], row["taxa"]) == (pair.id, list(pair.taxa))
