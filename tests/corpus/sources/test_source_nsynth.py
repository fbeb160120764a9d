import json
from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

NOTE = {
    "note": 201034,
    "note_str": "guitar_acoustic_001-082-050",
    "instrument": 417,
    "instrument_str": "guitar_acoustic_001",
    "instrument_family": 3,
    "instrument_family_str": "guitar",
    "instrument_source": 0,
    "instrument_source_str": "acoustic",
    "pitch": 82,
    "velocity": 50,
    "sample_rate": 16000,
    "qualities": [0, 1],
    "qualities_str": ["bright", "percussive"],
}


def archive(folder: Path, part: str, notes: object) -> Path:
    write(folder / f"nsynth-{part}" / "examples.json", json.dumps(notes))
    return folder


def test_notes_of_all_parts(tmp_path: Path) -> None:
    lead = NOTE | {"instrument_family_str": "synth_lead", "instrument_source_str": "synthetic", "pitch": 0}
    for part, name, note in (("train", "guitar-1", NOTE), ("valid", "lead-1", lead)):
        archive(tmp_path, part, {name: note})
        tone(tmp_path / f"nsynth-{part}" / "audio" / f"{name}.wav", rate=16000)
    (guitar, synth), failures = listed(source_type("nsynth")(tmp_path))
    assert not failures
    assert (guitar.id, guitar.kind, guitar.instrument, guitar.pitch) == ("guitar-1", "music", "guitar", 82)
    assert (guitar.labels, guitar.group) == (("acoustic guitar",), "guitar_acoustic_001")
    assert (guitar.split, synth.split) == ("train", "validation")
    assert (synth.instrument, synth.pitch) == ("synth lead", 0)


def test_entries_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    for name in ("high", "text", "yes", "nameless", "half"):
        tone(tmp_path / "nsynth-test" / "audio" / f"{name}.wav", rate=16000)
    notes = {
        "high": NOTE | {"pitch": 128},
        "text": NOTE | {"pitch": "82"},
        "yes": NOTE | {"pitch": True},
        "nameless": NOTE | {"instrument_str": ""},
        "half": ["no", "note"],
        "gone": NOTE,
    }
    recordings, failures = listed(source_type("nsynth")(archive(tmp_path, "test", notes)))
    table = "nsynth-test/examples.json"
    assert not recordings
    assert [failure.file_name for failure in failures[:5]] == [f"{table} {name}" for name in list(notes)[:5]]
    assert "0 to 127" in failures[0].cause and "instrument_str" in failures[3].cause
    assert failures[5].file_name == "nsynth-test/audio/gone.wav"


def test_a_note_that_leads_outside_the_archive_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    folder = archive(tmp_path / "nsynth", "test", {"../../../secret": NOTE})
    (folder / "nsynth-test" / "audio").mkdir()
    recordings, (failure,) = listed(source_type("nsynth")(folder))
    assert not recordings
    assert "names no file of the archive" in failure.cause


def test_the_same_note_in_two_parts_is_given_once(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        archive(tmp_path, part, {"note": NOTE})
        tone(tmp_path / f"nsynth-{part}" / "audio" / "note.wav", rate=16000)
    (recording,), (failure,) = listed(source_type("nsynth")(tmp_path))
    assert recording.split == "train"
    assert failure.file_name == "nsynth-valid/examples.json note"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "not JSON"),
        (b'{"a": "\xe9"}', "not JSON in UTF-8"),
        (b"[]", "no notes"),
        (None, "not found"),
    ],
)
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    (tmp_path / "nsynth-train").mkdir()
    if content is not None:
        (tmp_path / "nsynth-train" / "examples.json").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        listed(source_type("nsynth")(tmp_path))


def test_a_folder_without_any_part(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no nsynth-train"):
        listed(source_type("nsynth")(tmp_path))
