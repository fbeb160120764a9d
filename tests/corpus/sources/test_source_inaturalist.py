import json
from pathlib import Path
from typing import Any

import pytest
from archives import listed, tone, write
from darwin_core_archives import darwin_core

from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.inaturalist import Source

OBSERVATIONS = "id,occurrenceID,catalogNumber,recordedBy,eventDate,countryCode,scientificName,taxonRank,sex,lifeStage,license\n"
MEDIA = "id,type,format,identifier,references,created,creator,publisher,license,rightsHolder\n"
CC = "http://creativecommons.org/licenses/by-nc/4.0/"


def observation(id: int, species: str = "Hyla arborea") -> str:
    facts = f"{species},species,male,adult,{CC}"
    return f'{id},https://www.inaturalist.org/observations/{id},{id},"Ольга, Б.",2020-05-01,DE,{facts}\n'


def sound(observation: int, name: str, kind: str = "Sound", form: str = "audio/mpeg") -> str:
    address = f"https://static.inaturalist.org/sounds/{name}?1598"
    return f"{observation},{kind},{form},{address},,2020-05-01,Olga,iNaturalist,{CC},Olga\n"


def archive(folder: Path, observations: str, media: str) -> Path:
    write(folder / "observations.csv", OBSERVATIONS + observations)
    write(folder / "media.csv", MEDIA + media)
    return folder


def test_a_sound_takes_its_facts_from_its_observation(tmp_path: Path) -> None:
    tone(tmp_path / "sounds" / "12.wav")
    tone(tmp_path / "sounds" / "13.flac")
    media = sound(1, "12.wav") + sound(1, "13.m4a") + sound(1, "photo.jpg", "StillImage", "image/jpeg")
    recordings, failures = listed(Source(archive(tmp_path, observation(1) + observation(2), media)))
    assert not failures
    assert [recording.id for recording in recordings] == ["12", "13"]
    assert [recording.file_name for recording in recordings] == ["sounds/12.wav", "sounds/13.flac"]
    assert {recording.group for recording in recordings} == {"1"}
    recording = recordings[0]
    assert recording.species == ("Hyla arborea",)
    assert recording.license == CC
    assert (recording.sex, recording.life_stage, recording.region) == ("male", "adult", "DE")
    assert (recording.recordist, recording.date) == ("Ольга, Б.", "2020-05-01")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    tone(tmp_path.parent / "outside.wav")
    tone(tmp_path / "a" / "12.wav")
    media = [
        sound(1, "12.wav"),
        sound(1, "12.wav"),
        sound(1, "14.wav"),
        sound(1, "15.m4a"),
        sound(2, "16.wav"),
        sound(3, "17.wav"),
        sound(1, "..%2F..%2F..%2Foutside.wav"),
        sound(1, ""),
        "1,Sound,audio/mpeg,,,,,,,\n",
    ]
    folder = archive(tmp_path / "a", observation(1) + observation(2, ""), "".join(media))
    recordings, failures = listed(Source(folder))
    assert [recording.id for recording in recordings] == ["12"]
    assert sorted(failure.file_name for failure in failures) == [
        "14.wav",
        "15.m4a",
        "media.csv line 10",
        "media.csv line 3",
        "media.csv line 6",
        "media.csv line 7",
        "media.csv line 9",
        "outside.wav",
    ]
    causes = {failure.file_name: failure.cause for failure in failures}
    assert "FLAC" in causes["15.m4a"]
    assert "no species" in causes["media.csv line 6"]
    assert "observations.csv does not have" in causes["media.csv line 7"]


def test_meta_xml_is_used_where_it_is_there(tmp_path: Path) -> None:
    tone(tmp_path / "9.wav")
    core = [["id", "scientificName"], ["77", "Grus grus"]]
    media = [["coreid", "identifier", "type"], ["77", "https://static.inaturalist.org/sounds/9.mp3", "Sound"]]
    (recording,), failures = listed(Source(darwin_core(tmp_path, core, media)))
    assert not failures
    assert (recording.species, recording.group) == (("Grus grus",), "77")


def test_missing_tables_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"neither observations\.csv nor train\.json"):
        listed(Source(tmp_path))
    write(tmp_path / "observations.csv", OBSERVATIONS)
    with pytest.raises(SourceError, match=r"media\.csv: not found"):
        listed(Source(tmp_path))
    write(tmp_path / "media.csv", "type,identifier\n")
    with pytest.raises(SourceError, match=r"media\.csv: no column coreid or id"):
        listed(Source(tmp_path))


def inat_sounds(folder: Path, *audio: dict[str, Any], split: str = "val") -> Path:
    content = {
        "info": {},
        "audio": list(audio),
        "categories": [{"id": 5, "name": "Strix aluco", "common_name": "Tawny Owl", "supercategory": "Aves"}],
        "annotations": [{"id": 1, "audio_id": each["id"], "category_id": each["id"] % 10} for each in audio],
        "licenses": [{"id": 0, "name": "CC BY", "url": CC}],
    }
    write(folder / f"{split}.json", json.dumps(content))
    return folder


def test_inat_sounds(tmp_path: Path) -> None:
    tone(tmp_path / "val" / "owls" / "a.wav", rate=22050)
    tone(tmp_path.parent / "b.wav")
    audio = {"duration": 0.5, "license": 0, "rights_holder": "Ana", "date": "2020-01-02"}
    rows = [
        {**audio, "id": 15, "file_name": "val/owls/a.wav"},
        {**audio, "id": 25, "file_name": "../../b.wav"},
        {**audio, "id": 35, "file_name": "owls/gone.wav"},
        {**audio, "id": 16, "file_name": "val/owls/a.wav"},
        {**audio, "id": 15, "file_name": "val/owls/a.wav"},
    ]
    (recording,), failures = listed(Source(inat_sounds(tmp_path, *rows)))
    assert recording.id == "val/15"
    assert recording.split == "validation"
    assert (recording.species, recording.common_names) == (("Strix aluco",), ("Tawny Owl",))
    assert (recording.duration, recording.license, recording.recordist) == (0.5, CC, "Ana")
    assert [failure.file_name for failure in failures] == [
        "val.json audio 2",
        "val/owls/gone.wav",
        "val.json audio 4",
        "val.json audio 5",
    ]


def test_inat_sounds_without_a_list_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.json", '{"audio": []}')
    with pytest.raises(SourceError, match=r"train\.json: has no list of categories"):
        listed(Source(tmp_path))
