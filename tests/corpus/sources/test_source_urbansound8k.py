from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

TABLE = "metadata/UrbanSound8K.csv"
HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"


def archive(folder: Path, rows: str) -> Path:
    write(folder / TABLE, HEADER + rows)
    return folder


def test_clips_of_one_original_share_a_group(tmp_path: Path) -> None:
    tone(tmp_path / "audio" / "fold5" / "100263-2-0-117.wav")
    tone(tmp_path / "audio" / "fold5" / "100263-2-0-121.wav")
    rows = (
        "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
        "100263-2-0-121.wav,100263,60.5,,1,5,2,children_playing\n"
    )
    (first, second), failures = listed(source_type("urbansound8k")(archive(tmp_path, rows)))
    assert not failures
    assert first.id == "100263-2-0-117"
    assert first.file_name == "audio/fold5/100263-2-0-117.wav"
    assert first.labels == ("children playing",)
    assert (first.group, first.duration) == ("100263", 4.0)
    assert (second.group, second.duration) == ("100263", None)
    assert (first.kind, first.license, first.split) == ("environment", "CC-BY-NC-3.0", "")


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    tone(tmp_path / "us" / "audio" / "fold1" / "7-0-0-0.wav")
    long_name = "x" * 5000 + ".wav"
    rows = (
        "7-0-0-0.wav,7,0,1,1,1,0,dog_bark\n"
        "7-0-0-0.wav,7,0,1,1,1,0,siren\n"
        "gone.wav,8,0,1,1,1,0,siren\n"
        "../../../secret.wav,9,0,1,1,1,0,siren\n"
        "a.wav,9,0,1,1,,0,\n"
        f"{long_name},9,0,1,1,1,0,siren\n"
    )
    recordings, failures = listed(source_type("urbansound8k")(archive(tmp_path / "us", rows)))
    assert [recording.labels for recording in recordings] == [("dog bark",)]
    assert [failure.file_name for failure in failures] == [
        f"{TABLE} line 3",
        "audio/fold1/gone.wav",
        f"{TABLE} line 5",
        f"{TABLE} line 6",
        f"audio/fold1/{long_name}",
    ]
    assert f"{TABLE} line 2" in failures[0].cause
    assert "fold, class" in failures[3].cause


def test_a_missing_column_folder_or_other_encoding_is_named(tmp_path: Path) -> None:
    source = source_type("urbansound8k")
    with pytest.raises(SourceError, match="no such folder"):
        listed(source(tmp_path / "none"))
    write(tmp_path / TABLE, "slice_file_name,fsID,start,end,salience\n")
    with pytest.raises(SourceError, match=r"UrbanSound8K.csv: no column fold, class"):
        listed(source(tmp_path))
    (tmp_path / TABLE).write_bytes(HEADER.encode() + "a.wav,1,0,1,1,1,0,caf\xe9\n".encode("latin-1"))
    with pytest.raises(SourceError, match="save it as UTF-8"):
        listed(source(tmp_path))
