from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

HEADER = "filename,fold,target,category,esc10,src_file,take\n"


def archive(folder: Path, rows: str) -> Path:
    write(folder / "meta" / "esc50.csv", HEADER + rows)
    return folder


def test_rows_become_recordings(tmp_path: Path) -> None:
    tone(tmp_path / "audio" / "1-100032-A-0.wav", seconds=5)
    archive(tmp_path, "1-100032-A-0.wav,1,0,sea_waves,True,100032,A\n")
    (recording,), failures = listed(source_type("esc50")(tmp_path))
    assert not failures
    assert recording.id == "1-100032-A-0"
    assert recording.labels == ("sea waves",)
    assert recording.group == "100032"
    assert recording.kind == "environment"


def test_a_missing_file_and_a_name_that_leads_outside_are_failures(tmp_path: Path) -> None:
    tone(tmp_path.parent / "secret.wav")
    rows = "gone.wav,1,0,dog,True,1,A\n../../secret.wav,1,0,dog,True,1,A\n"
    recordings, failures = listed(source_type("esc50")(archive(tmp_path / "esc", rows)))
    assert not recordings
    assert [failure.file_name for failure in failures] == ["audio/gone.wav", "meta/esc50.csv line 3"]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "meta" / "esc50.csv", "filename,fold\na.wav,1\n")
    with pytest.raises(SourceError, match=r"esc50.csv: no column category, src_file"):
        listed(source_type("esc50")(tmp_path))
