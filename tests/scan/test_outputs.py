"""What a scan is written as, read back by the tools that it is for; when recordings were made."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import crowsetta
import pandas
import pyarrow.parquet
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from scanning import scan, write_recording

from naturelm.scan.events import EventOptions, find_events
from naturelm.scan.export import ExportOptions, export
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Kind
from naturelm.scan.names import Format
from naturelm.scan.options import ScanError
from naturelm.scan.times import header_time, moment, parse_time_zone, recording_start


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of two recordings, one at 8 kHz, in every format."""
    folder = tmp_path_factory.mktemp("scanned")
    write_recording(folder / "in" / "SITE_20240131_233000.wav", 12, [(1.0, "low owl"), (4.0, "low owl")])
    write_recording(folder / "in" / "sub" / "b.wav", 9, [(7.0, "low owl")], rate=8_000)
    scan(folder / "out", folder / "in")
    (folder / "out" / "clips" / "x").mkdir(parents=True)
    for name in ("0.700_of_before_12.00s.wav", "my own.wav"):
        (folder / "out" / "clips" / "x" / name).touch()
    options = ExportOptions(EventOptions(0.6), tuple(Format), parse_time_zone("+01:00"), clips=2, html=True)
    written = export(folder / "out", options)
    assert (written.events, written.recordings, written.clips, written.rows) == (3, 2, 2, 14)
    return folder / "out"


def test_scores_hold_every_window_and_label(scanned: Path) -> None:
    table = pandas.read_parquet(scanned / "scores.parquet")
    assert len(table) == (4 + 3) * 2
    assert set(table["label"]) == {"low owl", "high bat"}
    assert table["score"].between(0, 1).all()
    assert table.groupby("recording", observed=True)["window"].max().tolist() == [3, 2]


def test_csv_has_birdnets_columns_first_and_clock_times(scanned: Path) -> None:
    table = pandas.read_csv(scanned / "events.csv")
    names = ["Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"]
    assert list(table.columns[:6]) == names
    assert table["Start (s)"].tolist() == [0, 3, 6]
    assert set(table["Scientific name"]) == {"Species low owl"}
    assert table["Start time"][1] == "2024-01-31T23:30:03.000+01:00"
    assert pandas.isna(table["Start time"][2])


def test_raven_tables_are_read_by_crowsetta(scanned: Path) -> None:
    own = scanned / "raven" / "SITE_20240131_233000.wav.selections.txt"
    boxes = crowsetta.formats.bbox.Raven.from_file(own, annot_col="Annotation").to_bbox()
    assert [(box.onset, box.offset, box.low_freq, box.high_freq, box.label) for box in boxes] == [
        (0.0, 3.0, 0.0, 8_000.0, "low owl"),
        (3.0, 6.0, 0.0, 8_000.0, "low owl"),
    ]
    low = crowsetta.formats.bbox.Raven.from_file(
        scanned / "raven" / "sub" / "b.wav.selections.txt", annot_col="Annotation"
    ).to_bbox()
    assert low[0].high_freq == 4_000  # half of what the file holds
    together = pandas.read_csv(scanned / "raven" / "combined.selections.txt", sep="\t")
    assert together["Selection"].tolist() == [1, 2, 3]
    assert together["Begin Time (s)"].tolist() == [0, 3, 12 + 6]
    assert together["File Offset (s)"].tolist() == [0, 3, 6]
    assert {"View", "Channel", "End Time (s)", "Annotation"} <= set(together.columns)


def test_audacity_labels_keep_its_rules(scanned: Path) -> None:
    for line in (scanned / "audacity" / "SITE_20240131_233000.wav.labels.txt").read_text().splitlines():
        start, end, label = line.split("\t")
        assert 0 <= float(start) <= float(end) and label.startswith("low owl")


def test_kaleidoscope_and_json_lines(scanned: Path) -> None:
    with (scanned / "kaleidoscope.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["FOLDER"], row["IN FILE"], float(row["OFFSET"])) for row in found][2] == ("sub", "b.wav", 6)
    assert all(Path(row["INDIR"], row["FOLDER"], row["IN FILE"]).is_file() for row in found)
    assert all(float(row["DURATION"]) == 3 and 0 <= float(row["TOP1DIST"]) < 0.4 for row in found)
    lines = [json.loads(line) for line in (scanned / "events.jsonl").read_text().splitlines()]
    assert [line["start"] for line in lines] == [0, 3, 6] and lines[2]["start_time"] is None


def test_relative_paths_are_those_below_the_folder_that_was_searched(scanned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(scanned / "journal", out / "journal")
    export(out, ExportOptions(EventOptions(0.6), tuple(Format), parse_time_zone("+01:00"), relative=True))
    tables = [path for path in scanned.rglob("*") if path.suffix in {".txt", ".csv", ".jsonl"}]
    assert len(tables) == 9
    for table in tables:
        text = table.read_text()
        there = text.replace(f"{scanned.parent / 'in'}/", "").replace(str(scanned.parent / "in"), "")
        assert (out / table.relative_to(scanned)).read_text() == there
    assert str(tmp_path) not in (out / "events.csv").read_text()
    with (out / "events.csv").open(newline="") as file:
        assert {row["File"] for row in csv.DictReader(file)} == {"SITE_20240131_233000.wav", "sub/b.wav"}


def test_clips_and_page(scanned: Path) -> None:
    assert [path.name for path in (scanned / "clips" / "x").iterdir()] == ["my own.wav"]
    clips = sorted((scanned / "clips").rglob("*s.wav"))
    assert [clip.parent.name for clip in clips] == ["low owl"] * 2
    assert all(sf.info(clip).duration == 3 for clip in clips)
    page = (scanned / "index.html").read_text()
    assert page.count("<audio") == 3 and "2024-01-31 23:00: 2" in page and "<script" not in page


def test_export_needs_a_scan(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no scan was begun"):
        export(tmp_path, ExportOptions())


def test_a_journal_from_elsewhere_leads_nowhere(tmp_path: Path) -> None:
    write_recording(tmp_path / "in" / "a.wav", 3)
    scan(tmp_path / "out" / "deep", tmp_path / "in")
    ((facts, path),) = Journal(tmp_path / "out" / "deep").finished()
    table = pyarrow.parquet.read_table(path)
    bad = replace(facts, folder="/", path="/../../../evil")
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"naturelm.recording": json.dumps(asdict(bad))}), path
    )
    export(tmp_path / "out" / "deep", ExportOptions(formats=(Format.AUDACITY, Format.RAVEN)))
    assert not [found for found in tmp_path.rglob("evil*") if "deep" not in found.parts]
    assert (tmp_path / "out" / "deep" / "audacity" / "evil.labels.txt").is_file()


def window(index: int, scores: dict[str, float], hop: float = 1.0, length: float = 2.0) -> list[dict]:
    return [
        {"recording": "x", "window": index, "start": index * hop, "end": index * hop + length}
        | {"kind": Kind.LABEL, "question": "", "label": label, "score": score}
        for label, score in scores.items()
    ]


SCORES = st.lists(st.fixed_dictionaries({"a": st.floats(0, 1), "b": st.floats(0, 1)}), max_size=30)


@given(SCORES, st.floats(0, 1), st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.5, 1.0, 3.0]))
def test_joined_events_cover_what_the_windows_cover(
    scores: list[dict[str, float]], least: float, gap: float, hop: float
) -> None:
    rows = [row for index, each in enumerate(scores) for row in window(index, each, hop)]
    single = list(find_events(rows, EventOptions(least)))
    joined = list(find_events(rows, EventOptions(least, merge=True, gap=gap)))
    assert len(single) == sum(score >= least for each in scores for score in each.values())
    assert sum(event.windows for event in joined) == len(single)
    assert [(e.start, e.label) for e in joined] == sorted((e.start, e.label) for e in joined)
    for label in "ab":
        own = [event for event in joined if event.label == label]
        assert all(later.start - earlier.end > gap for earlier, later in pairwise(own))
        for event in own:
            inside = [s for s in single if s.label == label and event.start <= s.start and s.end <= event.end]
            assert max(s.score for s in inside) == event.score
            assert (min(s.start for s in inside), max(s.end for s in inside)) == (event.start, event.end)


def test_top_keeps_the_highest_and_least_length_drops_the_short() -> None:
    rows = [*window(0, {"a": 0.9, "b": 0.8, "None of these": 0.95}), *window(5, {"b": 0.7})]
    assert [e.label for e in find_events(rows, EventOptions(0.5, top=1))] == ["a", "b"]
    assert not list(find_events(rows, EventOptions(0.5, merge=True, least_seconds=3)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240131_053000.WAV", datetime(2024, 1, 31, 5, 30)),
        ("S4A01234_20240131_053000.wav", datetime(2024, 1, 31, 5, 30)),
        ("SITE_0+1_20240131_053000_000.wav", datetime(2024, 1, 31, 5, 30)),
        ("2024-01-31T05:30:00Z.flac", datetime(2024, 1, 31, 5, 30, tzinfo=UTC)),
        ("x_2024-01-31_05-30-00.mp3", datetime(2024, 1, 31, 5, 30)),
        ("20240131T053000+0100_REC.wav", datetime(2024, 1, 31, 5, 30, tzinfo=timezone(timedelta(hours=1)))),
        ("SITE_20240131$053000.wav", datetime(2024, 1, 31, 5, 30)),
        ("5678.240131053000.wav", datetime(2024, 1, 31, 5, 30)),
        ("5678.241331053000.wav", None),
        ("5E90A4D4.WAV", datetime(2020, 4, 10, 16, 54, 44, tzinfo=UTC)),
        ("20241331_053000.wav", None),
        ("deadbeef.wav", None),
        ("recording 12.wav", None),
    ],
)
def test_stamps_in_names(name: str, expected: datetime | None) -> None:
    assert recording_start(f"/some/where/{name}", "", None) == expected


def test_zones_are_explicit_and_summer_time_is_kept() -> None:
    berlin = parse_time_zone("Europe/Berlin")
    start = recording_start("20240331_013000.wav", "", berlin)
    assert moment(start, 3600).isoformat() == "2024-03-31T03:30:00+02:00"  # type: ignore[union-attr]
    stated = recording_start("20240131_053000.wav", "2024-01-31T05:30:00+00:00", berlin)
    assert stated is not None and stated.isoformat() == "2024-01-31T06:30:00+01:00"
    with pytest.raises(ScanError, match="--time-zone"):
        parse_time_zone("Middle/Earth")


def test_headers(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "x.wav", 0.1)
    plain = path.read_bytes()
    assert header_time(path) == ""
    comment = b"Recorded at 05:30:00 31/01/2024 (UTC+2) by AudioMoth 0123456789ABCDEF at medium gain"
    for chunk in (
        (b"LIST", b"INFOICMT" + len(comment).to_bytes(4, "little") + comment),
        (b"guan", b"GUANO|Version: 1.0\nTimestamp: 2024-01-31T05:30:00+02:00\n"),
    ):
        content = chunk[1] + b"\0" * (len(chunk[1]) % 2)
        path.write_bytes(plain + chunk[0] + len(content).to_bytes(4, "little") + content)
        assert header_time(path) == "2024-01-31T05:30:00+02:00"
    path.write_bytes(plain[:36] + b"LIST" + b"\xff" * 40)
    assert header_time(path) == ""
