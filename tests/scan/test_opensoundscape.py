"""Raven tables read by opensoundscape, where it is installed: it wants a torchaudio of its own, so it is no extra."""

from pathlib import Path

import pytest
from scanning import exported, scan, write_recording

from naturelm.scan.events import EventOptions
from naturelm.scan.names import Format

annotations = pytest.importorskip(
    "opensoundscape.annotations", reason="opensoundscape is not here: docs/scan.md says how to run this"
)


def test_raven_tables_are_opensoundscapes_annotations(tmp_path: Path) -> None:
    night = write_recording(tmp_path / "in" / "night.wav", 12, [(1.0, "low owl"), (7.0, "high bat")])
    day = write_recording(tmp_path / "in" / "day.wav", 6, [(4.0, "low owl")], seed=1)
    scan(tmp_path / "out", tmp_path / "in")
    exported(tmp_path / "out", events=EventOptions(0.6), formats=(Format.RAVEN,))
    tables = [tmp_path / "out" / "raven" / f"{path.name}.selections.txt" for path in (night, day)]
    boxes = annotations.BoxedAnnotations.from_raven_files(
        tables, annotation_column="Annotation", audio_files=[night, day]
    )
    found = boxes.df.sort_values(["audio_file", "start_time"])
    assert found[["start_time", "end_time", "annotation"]].values.tolist() == [
        [3.0, 6.0, "low owl"],
        [0.0, 3.0, "low owl"],
        [6.0, 9.0, "high bat"],
    ]
    assert found["high_f"].tolist() == [8_000.0] * 3 and found["low_f"].tolist() == [0.0] * 3
