"""A build that was killed goes on where it was, to the same bytes, and leaves no process behind."""

import signal
from pathlib import Path

import pytest
from builds import birds, build_apart, outlived, places, with_fauna, written

from naturelm.corpus.build import build_corpus
from naturelm.corpus.options import CorpusError
from naturelm.corpus.storage import DATA, MANIFEST


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resumed") / "archive"
    birds(folder / "birds")
    places(folder / "esc50")
    return folder


@pytest.fixture(scope="module")
def unbroken(archive: Path) -> Path:
    return build_corpus(with_fauna(archive), archive.parent / "unbroken", workers=2).folder


def killed(archive: Path, folder: Path, stage: str, done: int) -> None:
    """Build until `stage` has `done`, killed there; no worker lives on."""
    status, children, said = build_apart(archive, folder, stage=stage, done=done, options="with_fauna")
    assert status == -signal.SIGKILL, said
    assert children
    assert not outlived(children)
    assert not (folder / MANIFEST).exists()


def test_a_build_killed_at_every_stage_ends_with_the_same_bytes(
    archive: Path, unbroken: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    prepared = folder / "work" / "prepared"

    killed(archive, folder, "opening recordings", 1)
    first = {path.name: path.stat().st_mtime_ns for path in prepared.glob("*.parquet")}
    assert first
    (prepared / "000001.parquet").write_bytes(b"PAR1 and no more")
    (prepared / ".000001.parquet.99999").write_bytes(b"half of it")
    (prepared / "000007.parquet").write_bytes(b"of an archive that was longer")
    (folder / ".build.json.99999").write_bytes(b"half of it")

    killed(archive, folder, "gathering", 0)
    kept = {path.name: path.stat().st_mtime_ns for path in prepared.glob("*.parquet")}
    assert sorted(kept) == ["000000.parquet", "000001.parquet"]
    assert kept["000000.parquet"] == first.get("000000.parquet", kept["000000.parquet"])

    killed(archive, folder, "making pairs", 8)
    shards = {path: path.stat().st_mtime_ns for path in (folder / DATA).glob("*.parquet")}
    assert 2 <= len(shards) < len(list((unbroken / DATA).iterdir()))
    assert (folder / "work" / "library.arrow").is_file()
    (folder / DATA / ".train-00003-of-00007.parquet.99999").write_bytes(b"half of it")

    done: list[tuple[str, int]] = []
    build_corpus(
        with_fauna(archive),
        folder,
        workers=1,
        progress=lambda stage, number, _total: done.append((stage, number)),
    )
    assert "opening recordings" not in dict(done)
    assert written(folder) == written(unbroken)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert not (folder / "work").exists()
    assert not list(folder.glob(".build.json.*"))


def test_a_build_killed_while_its_mark_was_written_can_be_begun(archive: Path, tmp_path: Path) -> None:
    (tmp_path / ".build.json.99999").write_bytes(b"{")

    def stop(_stage: str, _done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(with_fauna(archive), tmp_path, progress=stop)
    assert (tmp_path / "build.json").is_file()
    assert not (tmp_path / ".build.json.99999").exists()


def test_shards_of_other_recordings_are_not_mixed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    birds(archive / "birds", each=2)
    places(archive / "esc50", each=1)
    folder = tmp_path / "corpus"

    def stop(stage: str, _done: int, _total: int | None) -> None:
        if stage == "making pairs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(with_fauna(archive), folder, progress=stop)
    (archive / "birds" / "Parus-major" / "1.wav").unlink()
    with pytest.raises(
        CorpusError, match="archives have changed since this build began; begin anew with --fresh"
    ):
        build_corpus(with_fauna(archive), folder)
