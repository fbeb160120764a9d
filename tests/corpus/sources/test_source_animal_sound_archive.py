from pathlib import Path

import pytest
from archives import listed, tone
from darwin_core_archives import darwin_core

from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.animal_sound_archive import Source

PLACE = "https://www.tierstimmenarchiv.de/recordings/"
CORE = [
    [
        "id",
        "catalogNumber",
        "scientificName",
        "scientificNameAuthorship",
        "vernacularName",
        "sex",
        "lifeStage",
        "individualCount",
        "country",
        "eventDate",
        "recordedBy",
        "license",
    ],
    [
        "u1",
        "TSA:Vulpes_vulpes_S0001_01",
        "Vulpes vulpes (Linnaeus, 1758)",
        "(Linnaeus, 1758)",
        "Rotfuchs",
        "female",
        "adult",
        "2",
        "Germany",
        "1958-02-14",
        "Günter Tembrock",
        "CC BY-NC",
    ],
    ["u2", "TSA:Vulpes_vulpes_S0001_02", "Vulpes vulpes", "", "", "", "", "x", "", "", "", ""],
    ["u3", "TSA:S0002", "", "", "", "", "", "", "", "", "", ""],
]


def media(*rows: tuple[str, str]) -> list[list[str]]:
    header = ["coreid", "identifier", "type", "format"]
    return [header, *([key, address, "Sound", "audio/mp3"] for key, address in rows)]


def test_recordings_are_grouped_by_their_tape(tmp_path: Path) -> None:
    tone(tmp_path / "Vulpes_vulpes_S0001_01.mp3")
    tone(tmp_path / "wav" / "Vulpes_vulpes_S0001_02.wav")
    rows = media(
        ("u1", f"{PLACE}Vulpes_vulpes_S0001_01.mp3"), ("u2", "https://www.tierstimmenarchiv.de/play.php?id=2")
    )
    (first, second), failures = listed(Source(darwin_core(tmp_path, CORE, rows)))
    assert not failures
    assert (first.id, second.id) == ("Vulpes_vulpes_S0001_01", "Vulpes_vulpes_S0001_02")
    assert first.group == second.group == "Vulpes_vulpes_S0001"
    assert first.species == second.species == ("Vulpes vulpes",)
    assert (first.sex, first.life_stage, first.count) == ("female", "adult", 2)
    assert (first.common_names, first.recordist) == (("Rotfuchs",), "Günter Tembrock")
    assert (first.license, first.date, first.region) == ("CC BY-NC", "1958-02-14", "Germany")
    assert (second.license, second.count, second.common_names) == ("unknown", None, ())


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    tone(tmp_path / "archive" / "Vulpes_vulpes_S0001_01.wav")
    rows = media(
        ("u1", f"{PLACE}Vulpes_vulpes_S0001_01.mp3"),
        ("u1", f"{PLACE}Vulpes_vulpes_S0001_01.mp3"),
        ("u2", f"{PLACE}../../secret.wav"),
        ("u3", f"{PLACE}S0002.mp3"),
        ("u4", f"{PLACE}S0003.mp3"),
    )
    recordings, failures = listed(Source(darwin_core(tmp_path / "archive", CORE, rows)))
    assert [recording.id for recording in recordings] == ["Vulpes_vulpes_S0001_01"]
    assert [failure.file_name for failure in failures] == [
        "multimedia.txt line 3",
        "secret.wav",
        "multimedia.txt line 5",
        "multimedia.txt line 6",
    ]


def test_without_meta_xml_it_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"meta\.xml: not found; the Animal Sound Archive"):
        listed(Source(tmp_path))
