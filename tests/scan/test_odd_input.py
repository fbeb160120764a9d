"""Recordings, folders and lists as they come from the field: odd names, changing files, closed folders, long lists."""

import os
import threading
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
from scanning import ToneListener, exported, rows, scan, write_recording

from naturelm.scan.events import EventOptions, find_events
from naturelm.scan.finding import find_recordings
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Kind
from naturelm.scan.names import Format
from naturelm.scan.options import CutOptions, ScanError, Shard

NAMES = [
    *("sp ace.wav", "tab\there.wav", "new\nline.wav", "ünïcödé 鳥.wav", "-dash.wav", "quote'\".wav"),
    *("a,b;c.wav", "<script>.wav", "x.y.z.WAV", "caf\u2028x.wav", "=1+1.wav", os.fsdecode(b"caf\xe9.wav")),
]


def test_odd_names_go_through_every_output_and_come_back(tmp_path: Path) -> None:
    sound = write_recording(tmp_path / "good.wav", 4, [(1.0, "low owl")]).read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            (tmp_path / folder / name).write_bytes(sound)
    out = tmp_path / "out"
    report = scan(out, tmp_path / "a", tmp_path / "b")
    assert (report.done, report.failed) == (2 * len(NAMES), 0)
    exported(out, formats=tuple(Format), clips=100, html=True)
    table = pandas.read_csv(out / "events.csv")
    shown = {name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in NAMES}
    assert {Path(file).name for file in table["File"]} == shown and len(table) == 2 * len(NAMES)
    # As many tables and clips as recordings, though each name is there twice.
    assert len(list((out / "audacity").iterdir())) == 2 * len(NAMES)
    assert len(list((out / "clips" / "low owl").iterdir())) == 2 * len(NAMES)
    assert "<script>.wav" not in (out / "index.html").read_text().replace("&lt;script&gt;", "")
    kaleidoscope = pandas.read_csv(out / "kaleidoscope.csv", keep_default_na=False)
    assert set(kaleidoscope["IN FILE"]) == shown
    assert scan(out, tmp_path / "a", tmp_path / "b").earlier == 2 * len(NAMES)


def test_lists_hold_odd_names_and_refuse_what_is_no_list(tmp_path: Path) -> None:
    names = ["sp ace.wav", "caf\u2028x.wav", os.fsdecode(b"caf\xe9.wav"), "absent.wav"]
    sound = write_recording(tmp_path / "good.wav", 0.5).read_bytes()
    for name in names[:3]:
        (tmp_path / name).write_bytes(sound)
    lines = b"\r\n".join(os.fsencode(name) for name in [*names, "", names[0]])
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + lines)
    found = find_recordings([], lists=[tmp_path / "list.txt"])
    assert sorted(Path(each.path).name for each in found) == sorted(names)
    assert scan(tmp_path / "out", *[Path(each.path) for each in found]).failed == 1
    for bad in (tmp_path / names[0], tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(ScanError, match="list"):
            find_recordings([], lists=[bad])
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ScanError, match="no recordings"):
        find_recordings([], lists=[tmp_path / "empty.txt"])


def test_what_is_no_file_is_reported_and_the_rest_is_done(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "good.wav", 1)
    (tmp_path / "in" / "dangling.wav").symlink_to(tmp_path / "absent.wav")
    os.mkfifo(tmp_path / "in" / "pipe.wav")
    (tmp_path / "in" / "folder.wav").mkdir()
    report = scan(tmp_path / "out", tmp_path / "in")
    assert (report.done, report.failed, report.complete) == (1, 2, True)


def test_a_closed_folder_is_reported_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recording(tmp_path / "in" / "good.wav", 1)
    (tmp_path / "in" / "lost+found").mkdir()
    look = os.scandir

    def closed(path: str) -> object:  # tests may run as root, to whom no folder is closed
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", closed)
    report = scan(tmp_path / "out", tmp_path / "in")
    assert (report.done, report.failed) == (1, 1)
    (failed,) = Journal(tmp_path / "out").failures()
    assert failed.path.endswith("lost+found") and "director" in failed.error


class _Meddling(ToneListener):
    """Makes a recording longer while it is listened to, as one that is still being written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def listen(self, windows):  # type: ignore[no-untyped-def]
        if self._path.stat().st_size < 400_000:
            write_recording(self._path, 20)
        return super().listen(windows)


def test_a_recording_that_changes_meanwhile_is_reported_and_done_again(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 3)
    growing = write_recording(tmp_path / "in" / "b.wav", 5)
    report = scan(tmp_path / "out", tmp_path / "in", listener=_Meddling(growing))
    if report.failed == 0:  # it was read to its end before it changed: then it is another recording now
        assert scan(tmp_path / "out", tmp_path / "in").done == 1
        return
    (failed,) = Journal(tmp_path / "out").failures()
    assert failed.path == str(growing)
    assert scan(tmp_path / "out", tmp_path / "in").done == 1
    assert not Journal(tmp_path / "out").failures()
    assert {facts.path: facts.windows for facts, _ in Journal(tmp_path / "out").finished()}[str(growing)] == 7


def test_a_recording_that_changed_before_it_was_read_is_reported(tmp_path: Path) -> None:
    from naturelm.scan.run import scan_recordings

    path = write_recording(tmp_path / "in" / "a.wav", 3)
    found = find_recordings([tmp_path / "in"])
    write_recording(path, 6)
    report = scan_recordings(found, ToneListener(), CutOptions(3.0), tmp_path / "out")
    assert report.failed == 1 and "was changed" in Journal(tmp_path / "out").failures()[0].error
    again = scan(tmp_path / "out", tmp_path / "in")
    assert (again.done, again.failed) == (1, 0) and not Journal(tmp_path / "out").failures()


def test_a_recording_that_has_become_unreadable_is_a_failure_though_it_was_done_once(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "in" / "a.wav", 3)
    write_recording(tmp_path / "in" / "b.wav", 3)
    scan(tmp_path / "out", tmp_path / "in")
    path.write_bytes(b"")
    assert scan(tmp_path / "out", tmp_path / "in").failed == 1
    assert [failed.path for failed in Journal(tmp_path / "out").failures()] == [str(path)]


def test_a_failure_of_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 3)
    bad = tmp_path / "in" / "bad.wav"
    bad.write_bytes(b"no sound")
    assert scan(tmp_path / "out", tmp_path / "in", tmp_path / "mistyped").failed == 2
    scan(tmp_path / "out", tmp_path / "in" / "a.wav")
    assert [failed.path for failed in Journal(tmp_path / "out").failures()] == [str(bad)]
    bad.unlink()
    scan(tmp_path / "out", tmp_path / "in")
    assert not Journal(tmp_path / "out").failures()


def test_clips_of_any_scan_are_not_scanned(tmp_path: Path) -> None:
    write_recording(tmp_path / "disk" / "a.wav", 4, [(1.0, "low owl")])
    for out in (tmp_path / "disk", tmp_path / "disk" / "deep" / "results"):
        scan(out, tmp_path / "disk")
        exported(out, clips=3)
        assert list((out / "clips").rglob("*.wav"))
    again = scan(tmp_path / "third", tmp_path / "disk")
    assert again.done == 1


def test_a_long_list_costs_no_more_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    sound = write_recording(tmp_path / "one.wav", 0.1).read_bytes()
    for number in range(200):
        (tmp_path / "in" / f"{number:05}.wav").write_bytes(sound)
    look, looks = os.scandir, []

    def counted(path: str = ".") -> object:
        looks.append(path)
        return look(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert scan(tmp_path / "out", tmp_path / "in").done == 200
    exported(tmp_path / "out")
    # Folders of a hundred thousand files are not listed for each of them, nor their scores kept in as many row groups.
    assert len(looks) < 50
    assert pyarrow.parquet.ParquetFile(tmp_path / "out" / "scores.parquet").num_row_groups == 1


def test_parts_of_unlike_cuts_do_not_meet(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 3)
    for held, wanted in ((Shard(1, 2), Shard(1, 1)), (Shard(1, 1), Shard(2, 2)), (Shard(2, 3), Shard(1, 2))):
        with Journal(tmp_path / "out").held(held), pytest.raises(ScanError, match="another process"):
            scan(tmp_path / "out", tmp_path / "in", shard=wanted)
    with Journal(tmp_path / "out").held(Shard(2, 3)):
        scan(tmp_path / "out", tmp_path / "in", shard=Shard(1, 3))
    assert len(rows(tmp_path / "out")) == 2


def test_answers_are_kept_whatever_their_probability() -> None:
    row = {"recording": "x", "window": 0, "start": 0.0, "end": 3.0}
    found = [
        row | {"kind": Kind.ANSWER, "question": "What?", "label": "An owl is heard.", "score": 0.01},
        row | {"kind": Kind.LABEL, "question": "", "label": "Dog", "score": 0.2},
        row | {"kind": Kind.LABEL, "question": "", "label": "Owl", "score": 0.3},
    ]
    assert [e.label for e in find_events(found, EventOptions())] == ["Owl", "An owl is heard."]
    assert [e.label for e in find_events(found, EventOptions(0.25))] == ["Owl"]


def test_threads_end_with_the_scan(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 60)
    before = threading.active_count()
    calls = iter([False, False])
    scan(tmp_path / "out", tmp_path / "in", stop=lambda: next(calls, True))
    with pytest.raises(ScanError, match="not even one"):
        scan(tmp_path / "none", tmp_path / "in", listener=ToneListener(most=0))
    assert threading.active_count() == before
