"""A scan beside annotations made by hand: what is read, and what the numbers are."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scanning import exported, scan, write_recording
from typer.testing import CliRunner

from naturelm.cli import app
from naturelm.scan.agreement import agreement
from naturelm.scan.annotations import Annotation, read_annotations
from naturelm.scan.events import Event, EventOptions
from naturelm.scan.options import ScanError
from naturelm.scan.summary import compare, summarise


def event(start: float, end: float, score: float = 0.9, label: str = "owl") -> Event:
    return Event("x", start, end, label, "", score)


def test_numbers_by_hand() -> None:
    events = {"x": [event(0, 3, 0.9), event(3, 6, 0.8), event(9, 12, 0.7), event(20, 23, 0.95, "bat")]}
    annotated = {"x": [Annotation(0, 3, "Owl"), Annotation(10, 12, "owl"), Annotation(30, 31, "owl")]}
    bat, owl = agreement(events, annotated)
    assert (owl.events.hits, owl.events.false_alarms, owl.events.misses) == (2, 1, 1)
    assert (owl.events.precision, owl.events.recall, owl.events.f1) == pytest.approx((2 / 3,) * 3)
    assert (owl.seconds.hits, owl.seconds.false_alarms, owl.seconds.misses) == (5, 4, 1)
    assert owl.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert (bat.events.precision, bat.seconds.false_alarms) == (0, 3)
    assert math.isnan(bat.events.recall) and math.isnan(bat.average_precision)
    strict = agreement(events, annotated, least_iou=0.9)[1]
    assert strict.events.hits == 1


def test_an_annotation_is_matched_once() -> None:
    (row,) = agreement({"x": [event(0, 3, 0.5), event(0, 3, 0.6)]}, {"x": [Annotation(0, 3, "owl")]})
    assert (row.events.hits, row.events.false_alarms) == (1, 1) and row.average_precision == 1


STRETCHES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=12)


@given(STRETCHES, st.floats(0.05, 1))
def test_annotations_agree_with_themselves_and_counts_add_up(
    stretches: list[tuple[int, int]], iou: float
) -> None:
    annotated = {"x": [Annotation(s, s + length, "owl") for s, length in stretches]}
    same = {"x": [event(s, s + length) for s, length in stretches]}
    (row,) = agreement(same, annotated, least_iou=iou)
    assert row.events.hits == len(stretches) and row.average_precision == pytest.approx(1)
    assert row.seconds.f1 == 1
    (none,) = agreement({"x": [event(s + 100, s + 101) for s, _ in stretches]}, annotated, least_iou=iou)
    assert (none.events.hits, none.events.f1) == (0, 0) and none.events.misses == len(stretches)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agreeing")
    write_recording(folder / "in" / "night.wav", 30, [(1.0, "low owl"), (16.0, "high bat")])
    write_recording(folder / "in" / "day.wav", 12, [(4.0, "low owl")])
    scan(folder / "out", folder / "in")
    return folder / "out"


def test_its_own_raven_tables_agree_with_a_scan(scanned: Path) -> None:
    from naturelm.scan.names import Format

    options = EventOptions(0.6)
    exported(scanned, events=options, formats=(Format.RAVEN, Format.AUDACITY))
    own = sorted((scanned / "raven").glob("*.wav.selections.txt"))
    for files in (own, [scanned / "raven" / "combined.selections.txt"]):
        rows = compare(scanned, files, options)
        assert {(row.label, row.events.hits, row.events.f1) for row in rows if row.events.hits} == {
            ("low owl", 2, 1.0),
            ("high bat", 1, 1.0),
        }
        assert all(row.average_precision == 1 for row in rows)
    assert summarise(scanned, options).labels == {"low owl": 2, "high bat": 1}


def test_annotations_by_hand_belong_to_the_recording_that_they_name(scanned: Path, tmp_path: Path) -> None:
    track = tmp_path / "night.labels.txt"
    track.write_text("0.5\t2.9\tlow owl\n\\\t0\t4000\n25.0\t26.0\tlow owl\n")
    result = CliRunner().invoke(
        app, ["scan", "report", str(scanned), "-a", str(track), "--min-confidence", "0.6", "--json"]
    )
    assert result.exit_code == 0, result.output
    rows = {row["label"]: row for row in json.loads(result.stdout)["agreement"]}
    assert (rows["low owl"]["events"]["hits"], rows["low owl"]["events"]["misses"]) == (1, 1)
    assert rows["high bat"]["events"]["recall"] is None
    shown = CliRunner().invoke(app, ["scan", "report", str(scanned), "-a", str(track)])
    assert shown.exit_code == 0 and "0.500" in shown.stdout
    track.rename(tmp_path / "dusk.txt")
    with pytest.raises(ScanError, match="no recording of the scan"):
        compare(scanned, [tmp_path / "dusk.txt"], EventOptions())


@pytest.mark.parametrize(
    "text", ["1\tx\towl\n", "5\t3\towl\n", "nan\t3\towl\n", "Begin Time (s)\tEnd Time (s)\n1\t2\n", "\0"]
)
def test_bad_annotations_are_explained(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ScanError, match=r"bad\.txt"):
        read_annotations(path)


def test_raven_tables_of_both_views_count_once(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
    path.write_text(head + "1\tWaveform 1\t1\t2\t3\t\t\towl\n1\tSpectrogram 1\t1\t2\t3\t0\t8000\towl\n")
    assert read_annotations(path) == [Annotation(2, 3, "owl")]
