import unicodedata
from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

CAPTIONS = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
METADATA = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
FIVE = "One.,Two.,Three.,Four.,Five.\n"


def split(folder: Path, name: str, captions: str, metadata: str, encoding: str = "utf-8") -> Path:
    write(folder / f"clotho_captions_{name}.csv", CAPTIONS + captions)
    (folder / f"clotho_metadata_{name}.csv").write_bytes((METADATA + metadata).encode(encoding))
    return folder


def about(name: str, sound_id: str = "80399") -> str:
    link = f"https://freesound.org/people/x/sounds/{sound_id}"
    return f'{name},radio;voices,{sound_id},{link},"[1024, 845524]",José,http://creativecommons.org/by/3.0/\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_five_captions_of_one_sound(tmp_path: Path, encoding: str) -> None:
    tone(tmp_path / "development" / "Radio Garblé.wav")
    split(tmp_path, "development", f"Radio Garblé.wav,{FIVE}", about("Radio Garblé.wav"), encoding)
    recordings, failures = listed(source_type("clotho")(tmp_path))
    assert not failures
    assert [recording.caption for recording in recordings] == ["One.", "Two.", "Three.", "Four.", "Five."]
    assert [recording.id for recording in recordings] == [
        f"development/Radio Garblé/{number}" for number in range(1, 6)
    ]
    assert {recording.group for recording in recordings} == {"80399"}
    first = recordings[0]
    assert (first.recordist, first.license) == ("José", "http://creativecommons.org/by/3.0/")
    assert (first.split, first.kind) == ("train", "environment")
    assert first.url == "https://freesound.org/people/x/sounds/80399"


def test_names_with_decomposed_letters_blanks_and_another_folder_are_found(tmp_path: Path) -> None:
    tone(tmp_path / "clotho_audio_evaluation" / "evaluation" / unicodedata.normalize("NFD", "été .wav"))
    split(tmp_path, "evaluation", f" été .wav ,{FIVE}", about("été .wav", "Not found"))
    recordings, failures = listed(source_type("clotho")(tmp_path))
    assert not failures
    assert len(recordings) == 5
    assert {(each.group, each.split, each.url) for each in recordings} == {("evaluation/été ", "test", "")}


def test_without_metadata_the_captions_stand_and_a_failure_says_so(tmp_path: Path) -> None:
    tone(tmp_path / "validation" / "a.wav")
    write(tmp_path / "clotho_captions_validation.csv", f"{CAPTIONS}a.wav,{FIVE}")
    recordings, (failure,) = listed(source_type("clotho")(tmp_path))
    assert {(each.license, each.group) for each in recordings} == {("unknown", "validation/a")}
    assert failure.file_name == "clotho_metadata_validation.csv"


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    folder = tmp_path / "clotho"
    tone(folder / "development" / "a.wav")
    rows = f"a.wav,One.,,Three.,Four.,Five.\na.wav,{FIVE}gone.wav,{FIVE},{FIVE}../../secret.wav,{FIVE}"
    recordings, failures = listed(source_type("clotho")(split(folder, "development", rows, about("a.wav"))))
    assert [recording.id[-2:] for recording in recordings] == ["/1", "/3", "/4", "/5"]
    table = "clotho_captions_development.csv"
    assert [failure.file_name for failure in failures] == [
        f"{table} line 2",
        f"{table} line 3",
        "development/gone.wav",
        f"{table} line 5",
        "development/../../secret.wav",
    ]
    assert "caption_2" in failures[0].cause


def test_missing_tables_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no clotho_captions_development.csv"):
        listed(source_type("clotho")(tmp_path))
    write(tmp_path / "clotho_captions_development.csv", "file_name,caption_1,caption_2\n")
    with pytest.raises(SourceError, match="no column caption_3, caption_4, caption_5"):
        listed(source_type("clotho")(tmp_path))
