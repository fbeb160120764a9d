from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

HEADER = "audiocap_id,youtube_id,start_time,caption\n"


def table(folder: Path, split: str, rows: str) -> Path:
    write(folder / "dataset" / f"{split}.csv", HEADER + rows)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "audio/r1nicOVtvkQ_130.wav",
        "Yr1nicOVtvkQ_130.flac",
        "waveforms/train/Yr1nicOVtvkQ.wav",
        "r1nicOVtvkQ.ogg",
        "train/91139.flac",
    ],
)
def test_sounds_are_found_by_their_usual_names(tmp_path: Path, name: str) -> None:
    tone(tmp_path / name)
    row = "91139,r1nicOVtvkQ,130,A woman talks nearby as water pours\n"
    (recording,), failures = listed(source_type("audiocaps")(table(tmp_path, "train", row)))
    assert not failures
    assert (recording.id, recording.file_name) == ("91139", name)
    assert recording.caption == "A woman talks nearby as water pours"
    assert (recording.split, recording.group) == ("train", "r1nicOVtvkQ")
    assert recording.url == "https://www.youtube.com/watch?v=r1nicOVtvkQ&t=130s"


def test_captions_of_one_clip_share_its_group(tmp_path: Path) -> None:
    tone(tmp_path / "test" / "Y-abc_def123_30.wav")
    table(tmp_path, "test", "1,-abc_def123,30,A dog barks\n2,-abc_def123,30,Собака лает\n")
    recordings, failures = listed(source_type("audiocaps")(tmp_path))
    assert not failures
    assert [recording.id for recording in recordings] == ["1", "2"]
    assert [recording.caption for recording in recordings] == ["A dog barks", "Собака лает"]
    assert {recording.group for recording in recordings} == {"-abc_def123"}


def test_of_two_files_with_one_name_the_one_of_the_split_is_taken(tmp_path: Path) -> None:
    for split in ("test", "train"):
        tone(tmp_path / split / "7.wav")
        table(tmp_path, split, f"7{'' if split == 'test' else '0'},video,0,A bell\n")
    write(tmp_path / "dataset" / "train.csv", HEADER + "7,other,0,A bell\n")
    recordings, (failure,) = listed(source_type("audiocaps")(tmp_path))
    assert [recording.file_name for recording in recordings] == ["train/7.wav"]
    assert failure.file_name == "dataset/test.csv line 2"


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    folder = tmp_path / "audiocaps"
    tone(folder / "abc_0.wav")
    rows = (
        "1,abc,0,Rain\n"
        "1,abc,0,Rain again\n"
        "2,abc,soon,Rain\n"
        "3,abc,0,\n"
        ",abc,0,Rain\n"
        "5,gone,10,Rain\n"
        "../secret,../secret,0,Rain\n"
    )
    recordings, failures = listed(source_type("audiocaps")(table(folder, "val", rows)))
    assert [recording.caption for recording in recordings] == ["Rain"]
    assert [failure.file_name for failure in failures] == [
        *(f"dataset/val.csv line {line}" for line in (3, 4, 5, 6)),
        "gone_10.wav",
        "../secret_0.wav",
    ]


def test_a_link_to_outside_the_archive_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    folder = table(tmp_path / "audiocaps", "val", "1,abc,0,Rain\n")
    (folder / "abc_0.wav").symlink_to(tmp_path / "secret.wav")
    recordings, (failure,) = listed(source_type("audiocaps")(folder))
    assert not recordings
    assert "names no file of the archive" in failure.cause


def test_missing_tables_columns_and_other_encodings_are_named(tmp_path: Path) -> None:
    source = source_type("audiocaps")
    with pytest.raises(SourceError, match=r"no dataset/train.csv"):
        listed(source(tmp_path))
    write(tmp_path / "train.csv", "audiocap_id,youtube_id,caption\n")
    with pytest.raises(SourceError, match=r"train.csv: no column start_time"):
        listed(source(tmp_path))
    (tmp_path / "train.csv").write_bytes(HEADER.encode() + b"1,abc,0,caf\xe9\n")
    with pytest.raises(SourceError, match="save it as UTF-8"):
        listed(source(tmp_path))
