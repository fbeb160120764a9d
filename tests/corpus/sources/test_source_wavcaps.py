import json
from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.recordings import Failure, Recording
from naturelm.corpus.sources import SourceError, source_type

UNPACKED = "mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms"


def table(folder: Path, name: str, *entries: object) -> Path:
    content = {"num_captions_per_audio": 1, "data": entries}
    write(folder / "json_files" / name, json.dumps(content))
    return folder


def entry(id: object, **more: object) -> dict[str, object]:
    return {"id": id, "caption": "Rain falls.", "duration": 12.5} | more


def test_parts_with_their_sounds_in_the_usual_places(tmp_path: Path) -> None:
    tone(tmp_path / UNPACKED / "AudioSet_SL_flac" / "Y-0a.b_cdefg.flac")
    tone(tmp_path / "FreeSound" / "17.wav")
    tone(tmp_path / "SoundBible_flac" / "17.ogg")
    table(tmp_path, "AudioSet_SL/as_final.json", entry("Y-0a.b_cdefg.wav"))
    more = {"author": "Ольга", "href": "https://freesound.org/people/x/sounds/17/", "tags": ["rain"]}
    table(tmp_path, "FreeSound/fsd_final.json", entry("17", **more))
    table(tmp_path, "SoundBible/sb_final.json", entry(17, duration="soon", license="Public Domain"))
    recordings, failures = listed(source_type("wavcaps")(tmp_path))
    assert not failures
    ids = ["AudioSet_SL/Y-0a.b_cdefg", "FreeSound/17", "SoundBible/17"]
    assert [recording.id for recording in recordings] == ids
    assert [recording.group for recording in recordings] == ids
    audioset, freesound, soundbible = recordings
    assert audioset.file_name == f"{UNPACKED}/AudioSet_SL_flac/Y-0a.b_cdefg.flac"
    assert (freesound.recordist, freesound.url) == ("Ольга", "https://freesound.org/people/x/sounds/17/")
    assert (freesound.caption, freesound.duration) == ("Rain falls.", 12.5)
    assert (freesound.license, soundbible.license) == ("academic use only", "Public Domain")
    assert soundbible.duration is None


def test_flac_is_taken_before_other_formats(tmp_path: Path) -> None:
    for suffix in ("mp3", "wav", "flac"):
        tone(tmp_path / "FreeSound_flac" / f"1.{suffix}")
    (recording,), _ = listed(source_type("wavcaps")(table(tmp_path, "FreeSound/fsd_final.json", entry("1"))))
    assert recording.file_name == "FreeSound_flac/1.flac"


def test_the_excerpt_of_freesound_is_not_read_beside_the_whole(tmp_path: Path) -> None:
    tone(tmp_path / "FreeSound_flac" / "1.flac")
    table(tmp_path, "FreeSound/fsd_final_2s.json", entry("1"))
    assert len(listed(source_type("wavcaps")(tmp_path))[0]) == 1
    table(tmp_path, "FreeSound/fsd_final.json", entry("1"))
    recordings, failures = listed(source_type("wavcaps")(tmp_path))
    assert len(recordings) == 1 and not failures


def test_what_a_list_names_is_left_out_and_said(tmp_path: Path) -> None:
    for name in ("AudioSet_SL_flac/Yabc.flac", "FreeSound_flac/1.flac", "FreeSound_flac/2.flac"):
        tone(tmp_path / name)
    table(tmp_path, "AudioSet_SL/as_final.json", entry("Yabc.wav"))
    table(tmp_path, "FreeSound/fsd_final.json", entry("1"), entry("2"))
    lists = {"AudioSet": ["Yabc.wav"], "FreeSound": ["2"]}
    write(tmp_path / "json_files" / "blacklist" / "exclude.json", json.dumps(lists))
    (recording,), failures = listed(source_type("wavcaps")(tmp_path, leave_out=("exclude.json",)))
    assert recording.id == "FreeSound/1"
    assert [failure.cause for failure in failures] == [
        "left out: Yabc is on the list exclude.json",
        "left out: 2 is on the list exclude.json",
    ]
    with pytest.raises(SourceError, match=r"secret.json: leads out of json_files/blacklist"):
        listed(source_type("wavcaps")(tmp_path, leave_out=("../../../secret.json",)))
    with pytest.raises(SourceError, match="not found"):
        listed(source_type("wavcaps")(tmp_path, leave_out=("none.json",)))


def test_entries_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    tone(tmp_path / "secret.flac")
    folder = tmp_path / "wavcaps"
    tone(folder / "FreeSound_flac" / "1.flac")
    entries = (
        entry("1"),
        entry("1"),
        entry("2", caption=""),
        {"caption": "Rain."},
        "no entry",
        entry("gone"),
        entry("../../secret"),
    )
    recordings, failures = listed(source_type("wavcaps")(table(folder, "FreeSound/fsd_final.json", *entries)))
    assert len(recordings) == 1
    where = "json_files/FreeSound/fsd_final.json entry"
    assert [failure.file_name for failure in failures] == [
        *(f"{where} {number}" for number in (2, 3, 4, 5)),
        "FreeSound_flac/gone.flac",
        "FreeSound_flac/../../secret.flac",
    ]


def test_a_caption_with_half_a_character_can_be_written(tmp_path: Path) -> None:
    tone(tmp_path / "FreeSound_flac" / "1.flac")
    table(tmp_path, "FreeSound/fsd_final.json", entry("1", caption="Rain \ud800 falls."))
    (row,) = source_type("wavcaps")(tmp_path).recordings()
    assert isinstance(row, Recording)
    assert row.caption.encode("utf-8").startswith(b"Rain")


@pytest.mark.parametrize("content", ['{"data": 3}', "[]", "no json", "[" * 100_000])
def test_a_damaged_table_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path / "json_files" / "FreeSound" / "fsd_final.json", content)
    with pytest.raises(SourceError, match=r"fsd_final.json"):
        listed(source_type("wavcaps")(tmp_path))


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        listed(source_type("wavcaps")(tmp_path))
    (tmp_path / "json_files" / "FreeSound").mkdir(parents=True)
    with pytest.raises(SourceError, match="download WavCaps' tables"):
        listed(source_type("wavcaps")(tmp_path))


def test_a_link_to_outside_the_archive_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "secret.flac")
    folder = table(tmp_path / "wavcaps", "FreeSound/fsd_final.json", entry("1"))
    (folder / "FreeSound_flac").mkdir()
    (folder / "FreeSound_flac" / "1.flac").symlink_to(tmp_path / "secret.flac")
    (row,) = source_type("wavcaps")(folder).recordings()
    assert isinstance(row, Failure)
    assert "names no file of the archive" in row.cause
