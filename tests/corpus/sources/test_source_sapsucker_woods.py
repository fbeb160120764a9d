from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.recordings import Event
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.sapsucker_woods import UNIDENTIFIED, Source

HEADER = "Filename,Start Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Species eBird Code\n"
SPECIES = (
    "Species eBird Code,Common Name,Scientific Name\n"
    "amecro,American Crow,Corvus brachyrhynchos\n"
    "comyel,Common Yellowthroat,Geothlypis trichas\n"
)
HOUR = "SSW_001_20170225_010000Z.flac"


def archive(folder: Path, rows: str, species: str = SPECIES) -> Path:
    write(folder / "annotations.csv", HEADER + rows)
    write(folder / "species.csv", species)
    return folder


def test_an_hour_is_one_recording_with_its_events(tmp_path: Path) -> None:
    tone(tmp_path / "soundscape_data" / HOUR, seconds=4, rate=32000)
    rows = f"{HOUR},2.5,3,100,9000,amecro\n{HOUR},0,1.25,100,9000,comyel\n{HOUR},1,2,100,9000,????\n"
    (recording,), failures = listed(Source(archive(tmp_path, rows)))
    assert not failures
    assert recording.id == recording.group == "SSW_001_20170225_010000Z"
    assert recording.file_name == f"soundscape_data/{HOUR}"
    assert recording.events == (
        Event(0, 1.25, "Geothlypis trichas"),
        Event(1, 2, UNIDENTIFIED),
        Event(2.5, 3, "Corvus brachyrhynchos"),
    )
    assert recording.species == ("Geothlypis trichas", "Corvus brachyrhynchos")
    assert recording.common_names == ("Common Yellowthroat", "American Crow")
    assert recording.date == "2017-02-25T01:00:00Z"


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    tone(tmp_path / "secret.flac")
    tone(folder / "soundscape_data" / HOUR, rate=32000)
    tone(folder / "soundscape_data" / "SSW_002_20170225_010000Z.flac", rate=32000)
    tone(folder / "soundscape_data" / "unknown.flac", rate=32000)
    rows = [
        f"{HOUR},0,1,0,1,amecro",
        f"{HOUR},1,1,0,1,amecro",
        f"{HOUR},nan,1,0,1,amecro",
        f"{HOUR},0,1,0,1,heron9",
        ",0,1,0,1,amecro",
        "../../secret.flac,0,1,0,1,amecro",
        "SSW_009.flac,0,1,0,1,amecro",
        "unknown.flac,0,1,0,1,????",
    ]
    species = SPECIES + "grhowl,Great Horned Owl,\n"
    (recording,), failures = listed(Source(archive(folder, "\n".join(rows) + "\n", species)))
    assert [event.label for event in recording.events] == ["Corvus brachyrhynchos", UNIDENTIFIED]
    assert [failure.file_name for failure in failures] == [
        "species.csv line 4",
        "annotations.csv line 3",
        "annotations.csv line 4",
        "annotations.csv line 5",
        "annotations.csv line 6",
        "annotations.csv: ../../secret.flac",
        "soundscape_data/SSW_009.flac",
        "soundscape_data/unknown.flac",
        "soundscape_data/SSW_002_20170225_010000Z.flac",
    ]


def test_a_missing_column_or_table_is_named(tmp_path: Path) -> None:
    archive(tmp_path, "", species="Species eBird Code,Common Name\n")
    with pytest.raises(SourceError, match=r"species\.csv: no column Scientific Name; its header has"):
        listed(Source(tmp_path))
    (tmp_path / "species.csv").unlink()
    with pytest.raises(SourceError, match=r"species\.csv: not found"):
        listed(Source(tmp_path))
