"""Scanning: what is found and when, what memory it takes, what stays after faults and interruptions."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scanning import (
    PAIR_BYTES,
    TONES,
    ClickListener,
    ToneEngine,
    ToneListener,
    broken_files,
    contents,
    exported,
    rows,
    scan,
    write_recording,
)

from naturelm.scan.events import EventOptions
from naturelm.scan.finding import find_recordings, grouped
from naturelm.scan.journal import Journal
from naturelm.scan.names import Format
from naturelm.scan.options import CutOptions, ScanError, Shard

RESUMED = Path(__file__).with_name("resumed.py")


def known_events(number: int, seconds: float) -> list[tuple[float, str]]:
    """Events apart from each other, at uneven times."""
    rng = random.Random(1)
    room = seconds / number
    return [(i * room + rng.uniform(0.5, room - 1.0), rng.choice(list(TONES))) for i in range(number)]


def check_events(out: Path, events: list[tuple[float, str]], hop: float = 3.0) -> None:
    """Each event lies in a row of events.csv of its label, and no row is without one."""
    exported(out, events=EventOptions(0.6, merge=True))
    with (out / "events.csv").open(newline="") as file:
        found = [(float(r["Start (s)"]), float(r["End (s)"]), r["Common name"]) for r in csv.DictReader(file)]
    for begin, label in events:
        assert any(s <= begin + 0.4 and begin <= e and name == label for s, e, name in found), (begin, label)
    for start, end, name in found:
        assert any(label == name and start <= begin + 0.4 and begin <= end for begin, label in events)


def test_events_come_back_at_their_times_and_memory_is_bounded(tmp_path: Path) -> None:
    peaks = []
    for seconds, number in ((30, 2), (400, 20)):
        events = known_events(number, seconds)
        write_recording(tmp_path / f"{seconds}" / "night.wav", seconds, events)
        tracemalloc.start()
        report = scan(tmp_path / f"out{seconds}", tmp_path / f"{seconds}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.done, report.complete, report.windows) == (1, True, -(-seconds // 3))
        check_events(tmp_path / f"out{seconds}", events)
    assert peaks[1] < peaks[0] + 4e6, peaks


@pytest.mark.slow
def test_a_day_is_scanned_in_the_memory_of_ten_minutes(tmp_path: Path) -> None:
    events = known_events(200, 86_400)
    day = write_recording(tmp_path / "day.wav", 86_400, events)
    short = write_recording(tmp_path / "short.wav", 600)
    peaks = []
    for path in (short, day):
        out = tmp_path / f"out_{path.stem}"
        done = subprocess.run(
            [sys.executable, RESUMED, path, out, "0", "peak"], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 300_000, peaks  # kB
    check_events(tmp_path / "out_day", events)


def test_nothing_is_lost_where_blocks_meet(tmp_path: Path) -> None:
    # Sound is read in blocks of 30 s; windows of 7 s lie across each of their seams.
    events = [(30.0 * k - 0.2, list(TONES)[k % 2]) for k in range(1, 7)]
    write_recording(tmp_path / "in" / "seams.wav", 200, events)
    scan(tmp_path / "out", tmp_path / "in", cut=CutOptions(7.0, 3.5))
    check_events(tmp_path / "out", events, 3.5)


@settings(max_examples=12, deadline=None)
@given(
    rate=st.sampled_from([44_100, 48_000, 96_000, 250_000]),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9]),
    length=st.sampled_from([0.5, 1.0, 3.0]),
    place=st.floats(0.1, 6.9),
)
def test_times_of_windows_are_exact(
    rate: int, overlap: float, length: float, place: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("click")
    sound = np.zeros(round(7.03 * rate), np.float32)
    sound += np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32) * 1e-4
    frame = round(place * rate)
    sound[frame : frame + rate // 8_000] = 0.9
    sf.write(folder / "click.wav", sound, rate, subtype="FLOAT")
    hop = length * (1 - overlap)
    scan(folder / "out", folder / "click.wav", listener=ClickListener(), cut=CutOptions(length, hop))
    found = rows(folder / "out")
    # To the sample of the ear, from the index alone: no drift.
    assert [row["start"] for row in found] == [round(i * hop * 16_000) / 16_000 for i in range(len(found))]
    assert found[-1]["end"] == pytest.approx(len(sound) / rate, abs=1e-9)
    assert all(row["end"] - row["start"] == pytest.approx(length) for row in found[:-1])
    middle = (frame + rate / 16_000) / rate
    inside = [r for r in found if r["start"] + 0.01 < middle < r["end"] - 0.01]
    assume(inside)  # the click may lie across the seam of two windows
    for row in inside:
        assert row["start"] + row["score"] * 60 == pytest.approx(middle, abs=2.5 / 16_000)


def test_folders_lists_and_suffixes_of_any_case(tmp_path: Path) -> None:
    for name in ("a.WAV", "deep/er/b.wAv", ".hidden.wav", "out/d.wav"):
        write_recording(tmp_path / "in" / "sound.wav", 0.1).rename(_made(tmp_path / "in" / name))
    (tmp_path / "in" / "c.txt").touch()
    (tmp_path / "list.txt").write_text("in/a.WAV\n\nin\n")
    found = find_recordings([], lists=[tmp_path / "list.txt"], without=tmp_path / "in" / "out")
    assert [Path(f.path).name for f in found] == ["a.WAV", "b.wAv"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ScanError, match="no recordings"):
        find_recordings([tmp_path / "nothing"])


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_gate_and_silence_are_skipped_and_reported(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(48_000), np.full(48_000, 1e-4), np.full(48_000, 0.1)])
    sf.write(tmp_path / "x.wav", sound.astype(np.float32), 16_000, subtype="FLOAT")
    report = scan(tmp_path / "out", tmp_path / "x.wav", cut=CutOptions(3.0, gate_db=-60))
    assert (report.windows, report.unheard) == (3, 2)
    assert [row["kind"] for row in rows(tmp_path / "out")] == ["silent", "gated", "label", "label"]
    assert scan(tmp_path / "open", tmp_path / "x.wav").unheard == 1


def test_windows_of_several_recordings_share_batches_that_shrink_to_fit(tmp_path: Path) -> None:
    for number in range(5):
        write_recording(tmp_path / "in" / f"{number}.wav", 4.5, seed=number)
    listener = ToneListener(batch_size=8)
    scan(tmp_path / "out", tmp_path / "in", listener=listener)
    assert listener.batches == [8, 2]
    small = ToneListener(batch_size=8, most=3)
    scan(tmp_path / "small", tmp_path / "in", listener=small)
    assert max(small.batches) <= 3 and sum(small.batches) == 10
    assert rows(tmp_path / "small") == rows(tmp_path / "out")
    with pytest.raises(ScanError, match="not even one window"):
        scan(tmp_path / "none", tmp_path / "in", listener=ToneListener(most=0))


def test_a_rerun_does_what_is_missing_and_another_parameter_says_so(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 7)
    scan(tmp_path / "out", tmp_path / "in")
    write_recording(tmp_path / "in" / "b.wav", 7)
    report = scan(tmp_path / "out", tmp_path / "in")
    assert (report.done, report.earlier) == (1, 1)
    write_recording(tmp_path / "in" / "a.wav", 10)  # another size and time: another recording
    assert scan(tmp_path / "out", tmp_path / "in").done == 1
    assert [facts.windows for facts, _ in Journal(tmp_path / "out").finished()] == [4, 3]
    with pytest.raises(ScanError, match=r"window was 3.0, is 2.0; hop was null, is 1.0.*--fresh"):
        scan(tmp_path / "out", tmp_path / "in", cut=CutOptions(2.0, 1.0))
    report = scan(tmp_path / "out", tmp_path / "in", cut=CutOptions(2.0, 1.0), fresh=True)
    assert (report.done, report.earlier) == (2, 0)


def test_progress_is_told_within_a_long_recording_too(tmp_path: Path) -> None:
    from naturelm.cli.scan import progress_text
    from naturelm.scan.run import Progress

    write_recording(tmp_path / "in" / "a.wav", 120)
    told: list[Progress] = []
    scan(tmp_path / "out", tmp_path / "in", progress=told.append)
    assert [state.seconds for state in told] == [*range(12, 121, 12), 120]
    assert [round(10 * state.size / state.of_size) for state in told[:9]] == [*range(1, 10)]
    assert (told[-1].recordings, told[-1].of_recordings, told[-1].size) == (1, 1, told[-1].of_size)
    text = progress_text(Progress(3, 10, 250, 1_000, 7_200, elapsed=60))
    assert text == "3 of 10 recordings, 2.0 h of sound, 120x real time, 0:03:00 left"


def test_told_to_stop_it_finishes_the_current_recording(tmp_path: Path) -> None:
    for number in range(6):
        write_recording(tmp_path / "in" / f"{number}.wav", 20, seed=number)
    calls = iter([False] * 6)  # asked before it begins, and after each batch
    report = scan(tmp_path / "out", tmp_path / "in", stop=lambda: next(calls, True))
    assert report.interrupted and 1 <= report.done < 6 and not report.complete
    assert not list((tmp_path / "out").rglob("*.tmp"))
    again = scan(tmp_path / "out", tmp_path / "in")
    assert again.done == 6 - report.done and again.complete
    whole = scan(tmp_path / "whole", tmp_path / "in")
    assert whole.done == 6 and rows(tmp_path / "whole") == rows(tmp_path / "out")


@pytest.mark.parametrize(("good", "broken"), [(60, 20), pytest.param(960, 40, marks=pytest.mark.slow)])
def test_broken_files_are_explained_and_the_rest_is_done(good: int, broken: int, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(good):
        write_recording(tmp_path / "in" / f"good{number}.wav", 0.5, seed=number)
    broken_files(tmp_path / "in", broken)
    report = scan(tmp_path / "out", tmp_path / "in")
    assert (report.done, report.failed, report.complete) == (good, broken, True)
    exported(tmp_path / "out")
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        failures = {row["File"]: row["Error"] for row in csv.DictReader(file)}
    assert len(failures) == broken and not any("good" in Path(path).name for path in failures)
    assert all(path in error and "\n" not in error for path, error in failures.items())
    again = scan(tmp_path / "out", tmp_path / "in")
    assert again.earlier >= good and again.done == 0


def test_what_comes_before_a_damaged_place_is_kept(tmp_path: Path) -> None:
    sound = write_recording(tmp_path / "x.wav", 20).read_bytes()
    (tmp_path / "x.wav").write_bytes(sound[: len(sound) // 2])
    report = scan(tmp_path / "out", tmp_path / "x.wav")
    assert report.failed == 1 and rows(tmp_path / "out")[-1]["end"] == 9.0
    (failed,) = Journal(tmp_path / "out").failures()
    assert "truncated" in failed.error and failed.seconds == 9.0


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_any_point_and_resumed_the_results_are_the_same_bytes(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naturelm.scan.run.grouped", lambda found: grouped(found, PAIR_BYTES))
    for number in range(8):
        write_recording(tmp_path / "in" / f"{number}.wav", 25 + number, seed=number)
    rng = random.Random(int(time.time()))
    command = [sys.executable, str(RESUMED), str(tmp_path / "in"), str(tmp_path / "out"), "0.1"]
    for _ in range(kills):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()  # it listens now
        time.sleep(rng.uniform(0.1, 2.0))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert len(grouped(find_recordings([tmp_path / "in"]), PAIR_BYTES)) == 4
    finished = len(list((tmp_path / "out" / "journal" / "done").glob("[!.]*")))
    for out in (tmp_path / "out", tmp_path / "whole"):
        scan(out, tmp_path / "in", listener=ToneListener(alike=False, batch_size=3))
        exported(out, formats=tuple(Format))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole"), finished


def test_two_processes_on_one_folder_do_not_harm_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naturelm.scan.run.grouped", lambda found: grouped(found, PAIR_BYTES))
    for number in range(4):
        write_recording(tmp_path / "in" / f"{number}.wav", 25, seed=number)
    command = [sys.executable, str(RESUMED), str(tmp_path / "in"), str(tmp_path / "out"), "0"]
    (tmp_path / "hold").touch()
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()  # it listens now
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.poll() is None
    (tmp_path / "hold").unlink()
    assert second.returncode == 1 and "another process is scanning" in second.stderr
    assert first.wait() == 0
    scan(tmp_path / "whole", tmp_path / "in", listener=ToneListener(alike=False, batch_size=3))
    exported(tmp_path / "whole", formats=tuple(Format))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_processes_do_not_meet(tmp_path: Path) -> None:
    for number in range(6):
        write_recording(tmp_path / "in" / f"{number}.wav", 6, seed=number)
    out = tmp_path / "out"
    with Journal(out).held(Shard()), pytest.raises(ScanError, match="another process"):
        scan(out, tmp_path / "in")
    scan(out, tmp_path / "in")
    assert len(rows(out)) == 24


def test_parts_together_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naturelm.scan.run.grouped", lambda found: grouped(found, 400_000))
    for number in range(6):
        write_recording(tmp_path / "in" / f"{number}.wav", 6, seed=number)
    scan(tmp_path / "whole", tmp_path / "in", listener=ToneListener(alike=False))
    parts = [
        scan(
            tmp_path / "out", tmp_path / "in", listener=ToneListener(alike=False), shard=Shard.parse(f"{i}/3")
        )
        for i in (3, 1, 2)
    ]
    assert [part.complete for part in parts] == [False, False, True]
    for out in (tmp_path / "whole", tmp_path / "out"):
        exported(out, formats=tuple(Format))
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not here: pip install 'naturelm[ray]'")
def test_a_cluster_that_loses_a_worker_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from naturelm.scan import cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setattr(cluster, "grouped", lambda found: grouped(found, 400_000))
    monkeypatch.setattr("naturelm.scan.run.grouped", lambda found: grouped(found, 400_000))
    for number in range(8):
        write_recording(tmp_path / "in" / f"{number}.wav", 6, seed=number)
    fatal = tmp_path / "fatal"
    fatal.touch()
    engine = ToneEngine(str(fatal))
    found = find_recordings([tmp_path / "in"])
    report = cluster.scan_on_cluster(
        found, engine, engine.open(), CutOptions(3.0), tmp_path / "out", workers=2
    )
    assert not fatal.exists()  # a worker was killed, and took it along
    assert (report.done, report.failed, report.complete) == (8, 0, True)
    scan(tmp_path / "whole", tmp_path / "in", listener=ToneListener(alike=False))
    for out in (tmp_path / "whole", tmp_path / "out"):
        exported(out, formats=tuple(Format))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "a/b", "2"])
def test_bad_shards_are_refused(shard: str) -> None:
    with pytest.raises(ScanError, match="--shard"):
        Shard.parse(shard)
