import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from archives import listed, tone, write
from darwin_core_archives import darwin_core
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.recordings import Failure, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.xeno_canto import Source

ROW: dict[str, Any] = {
    "id": "76967",
    "gen": "Parus",
    "sp": "major",
    "ssp": "newtoni",
    "group": "birds",
    "en": "Great Tit",
    "rec": "Frank Holzapfel",
    "cnt": "United Kingdom",
    "loc": "Epping Forest",
    "lat": "51.66",
    "lng": "0.05",
    "type": "alarm call, song",
    "sex": "male",
    "stage": "adult",
    "url": "//xeno-canto.org/76967",
    "file": "https://xeno-canto.org/76967/download",
    "file-name": "XC76967-gt.mp3",
    "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/",
    "q": "A",
    "length": "0:27",
    "date": "2011-04-00",
    "also": ["Turdus merula", "", "Erithacus rubecula"],
    "rmk": "",
}


def answer(folder: Path, *rows: object, name: str = "page1.json") -> Path:
    content = {"numRecordings": str(len(rows)), "numSpecies": "1", "page": 1, "recordings": list(rows)}
    write(folder / name, json.dumps(content))
    return folder


def test_a_recording_of_the_api_becomes_a_recording(tmp_path: Path) -> None:
    tone(tmp_path / "birds" / "XC76967 - Great Tit - Parus major.wav")
    (recording,), failures = listed(Source(answer(tmp_path, ROW)))
    assert not failures
    assert recording.id == "76967"
    assert recording.file_name == "birds/XC76967 - Great Tit - Parus major.wav"
    assert recording.species == ("Parus major",)
    assert recording.common_names == ("Great Tit",)
    assert recording.background == ("Turdus merula", "Erithacus rubecula")
    assert recording.call_types == ("alarm call", "song")
    assert (recording.sex, recording.life_stage) == ("male", "adult")
    assert recording.license == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert (recording.region, recording.recordist) == ("United Kingdom", "Frank Holzapfel")
    assert recording.date == "2011-04"
    assert recording.url == "https://xeno-canto.org/76967"


def test_sounds_are_found_by_their_number_and_by_no_other(tmp_path: Path) -> None:
    for name in ("XC1.ogg", "XC10.flac", "XC100-x.mp3"):
        tone(tmp_path / name)
    rows = [{**ROW, "id": id} for id in ("1", 10, "100")]
    recordings, failures = listed(Source(answer(tmp_path, *rows)))
    assert not failures
    assert [recording.file_name for recording in recordings] == ["XC1.ogg", "XC10.flac", "XC100-x.mp3"]


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    tone(tmp_path / "XC1.wav")
    tone(tmp_path / "XC2.wav")
    tone(tmp_path / "again" / "XC2.wav")
    rows = [
        {**ROW, "id": "1"},
        {**ROW, "id": "1"},
        {**ROW, "id": "2"},
        {**ROW, "id": "3"},
        {**ROW, "id": "../4"},
        {**ROW, "id": "5", "gen": "Mystery", "sp": "mystery"},
        {**ROW, "id": "6", "sp": ""},
        "7",
    ]
    write(tmp_path / "page2.json", "{")
    write(tmp_path / "page3.json", "[]")
    recordings, failures = listed(Source(answer(tmp_path, *rows)))
    assert [recording.id for recording in recordings] == ["1"]
    assert [failure.file_name for failure in failures] == [
        "page1.json recording 2",
        "XC2.mp3",
        "XC3.mp3",
        *(f"page1.json recording {number}" for number in (5, 6, 7, 8)),
        "page2.json",
        "page3.json",
    ]
    assert "several files fit: XC2.wav, again/XC2.wav" in failures[1].cause


def test_a_link_to_outside_is_refused(tmp_path: Path) -> None:
    secret = tone(tmp_path / "secret.wav")
    folder = answer(tmp_path / "archive", ROW)
    (folder / "XC76967.wav").symlink_to(secret)
    recordings, (failure,) = listed(Source(folder))
    assert not recordings
    assert "outside" in failure.cause


def test_a_folder_without_metadata_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither meta\.xml nor \*\.json"):
        listed(Source(tmp_path))
    with pytest.raises(SourceError, match="no such folder"):
        listed(Source(tmp_path / "gone"))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(ROW)), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(ROW)), json_values, max_size=6))
def test_any_json_is_a_recording_or_a_failure(changes: dict[str, Any]) -> None:
    with TemporaryDirectory() as place:
        folder = answer(Path(place), {**ROW, **changes})
        (folder / "XC76967.wav").touch()
        (row,) = Source(folder).recordings()
        assert isinstance(row, Failure) or (row.id and row.species[0])
        repr(row).encode("utf-8")


def test_the_darwin_core_archive(tmp_path: Path) -> None:
    tone(tmp_path / "sounds" / "XC76967.mp3")
    core = [
        [
            "id",
            "catalogNumber",
            "scientificName",
            "genus",
            "specificEpithet",
            "vernacularName",
            "lifeStage",
            "sex",
            "behavior",
            "associatedTaxa",
            "country",
            "eventDate",
            "recordedBy",
            "references",
        ],
        [
            "XC76967@XC",
            "XC76967",
            "Parus major newtoni Pražák, 1894",
            "Parus",
            "major",
            "Great Tit",
            "adult",
            "male",
            "song, call",
            "has background sounds: Turdus merula|Erithacus rubecula",
            "日本",
            "2011-04-09T00:00:00",
            'Frank "F" Holzapfel',
            "https://xeno-canto.org/76967",
        ],
        ["XC5@XC", "XC5", "", "", "", "", "", "", "", "", "", "", "", ""],
    ]
    media = [
        ["coreid", "identifier", "type", "format", "license"],
        [
            "XC76967@XC",
            "https://xeno-canto.org/sounds/uploaded/A/XC76967-gt.mp3",
            "Sound",
            "audio/mpeg",
            "CC0",
        ],
        [
            "XC76967@XC",
            "https://xeno-canto.org/sounds/uploaded/A/ffts/XC76967.png",
            "StillImage",
            "image/png",
            "",
        ],
        ["XC5@XC", "https://xeno-canto.org/sounds/uploaded/A/XC5.mp3", "Sound", "audio/mpeg", ""],
        ["XC6@XC", "https://xeno-canto.org/sounds/uploaded/A/XC6.mp3", "Sound", "audio/mpeg", ""],
    ]
    (recording,), failures = listed(Source(darwin_core(tmp_path, core, media)))
    assert recording.id == "76967"
    assert recording.species == ("Parus major",)
    assert recording.background == ("Turdus merula", "Erithacus rubecula")
    assert recording.call_types == ("song", "call")
    assert recording.recordist == 'Frank "F" Holzapfel'
    assert (recording.region, recording.date, recording.license) == ("日本", "2011-04-09T00:00:00", "CC0")
    assert [failure.file_name for failure in failures] == ["multimedia.txt line 4", "multimedia.txt line 5"]
    assert "no species" in failures[0].cause
    assert isinstance(recording, Recording)
