from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.recordings import Event
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.barkley_canyon import UNIDENTIFIED, Source

HEADER = (
    "Soundfile,Left time (sec),Right time (sec),Top freq (Hz),Bottom freq (Hz),Species,Call Type,Ecotype\n"
)
FIRST = "ICLISTENHF1251_20130615T062356.061Z.wav"
LATER = "ICLISTENHF1251_20130615T232356.061Z.wav"


def archive(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    write(folder / "BarkleyCanyonAnnotations_Public_Final.csv", header + "".join(f"{row}\n" for row in rows))
    return folder


def test_a_file_is_one_recording_with_its_events(tmp_path: Path) -> None:
    tone(tmp_path / "audio" / FIRST, seconds=3, rate=64000)
    tone(tmp_path / LATER.replace(".wav", ".flac"), seconds=3, rate=64000)
    rows = [
        f"{FIRST},1,2.5,5000,300,Oo,WH,SRKW",
        f"{FIRST},0.5,2,5000,300,Oo|Lo,WH,",
        f"{FIRST},2,3,5000,300,DE,,",
        f"{LATER},0,1,5000,300,Mn,SG,",
    ]
    (first, later), failures = listed(Source(archive(tmp_path, rows)))
    assert not failures
    assert (first.id, later.id) == (FIRST.removesuffix(".wav"), LATER.removesuffix(".wav"))
    assert first.file_name == f"audio/{FIRST}"
    assert first.events == (
        Event(0.5, 2, UNIDENTIFIED),
        Event(1, 2.5, "Orcinus orca"),
        Event(2, 3, "Delphinidae"),
    )
    assert (first.species, first.background) == (("Orcinus orca",), ("Delphinidae",))
    assert (first.call_types, later.call_types) == ((), ("SG",))
    assert later.species == ("Megaptera novaeangliae",)
    assert first.group == later.group == "ICLISTENHF1251_20130615"
    assert (first.date, first.license) == ("2013-06-15T06:23:56Z", "unknown")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    tone(tmp_path / "secret.wav")
    tone(folder / FIRST, rate=64000)
    tone(folder / LATER, rate=64000)
    tone(folder / "quiet.wav", rate=64000)
    rows = [
        f"{FIRST},0,0.1,5000,300,Balaenoptera musculus,,",
        f"{FIRST},3,2,5000,300,Oo,,",
        f"{FIRST},1.2.3,2,5000,300,Oo,,",
        f"{FIRST},0.2,0.3,5000,300,Zz,,",
        f"{FIRST},0.3,0.4,5000,300,,,",
        ",0,1,5000,300,Oo,,",
        "../secret.wav,0,1,5000,300,Oo,,",
        "gone.wav,0,1,5000,300,Oo,,",
        f"{LATER},0,0.1,5000,300,UN,,",
    ]
    (recording,), failures = listed(Source(archive(folder, rows)))
    assert recording.species == ("Balaenoptera musculus",)
    assert [event.label for event in recording.events] == [
        "Balaenoptera musculus",
        UNIDENTIFIED,
        UNIDENTIFIED,
    ]
    table = "BarkleyCanyonAnnotations_Public_Final.csv"
    assert [failure.file_name for failure in failures] == [
        *(f"{table} line {line}" for line in (3, 4, 5, 6, 7)),
        "../secret.wav",
        LATER,
        "gone.wav",
        "quiet.wav",
    ]


def test_spellings_of_columns_do_not_matter_but_their_lack_does(tmp_path: Path) -> None:
    tone(tmp_path / FIRST, rate=64000)
    archive(tmp_path, [f"{FIRST},0,0.2,Oo"], "Soundfile,Left.time..sec.,Right.time..sec.,species\n")
    (recording,), _ = listed(Source(tmp_path))
    assert recording.species == ("Orcinus orca",)
    archive(tmp_path, [], "Soundfile,Begin,Right time (sec)\n")
    with pytest.raises(SourceError, match=r"no column Left time \(sec\), Species; its header has: Soundfile"):
        listed(Source(tmp_path))


def test_of_several_tables_one_has_to_be_named(tmp_path: Path) -> None:
    tone(tmp_path / FIRST, rate=64000)
    archive(tmp_path, [f"{FIRST},0,0.2,5000,300,Oo,,"])
    table = tmp_path / "BarkleyCanyonAnnotations_Public_Final.csv"
    write(tmp_path / "other.csv", HEADER)
    with pytest.raises(SourceError, match="one table of annotations"):
        listed(Source(tmp_path))
    (recording,), _ = listed(Source(tmp_path, annotations=table))
    assert recording.species == ("Orcinus orca",)
