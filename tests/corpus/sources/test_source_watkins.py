from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.watkins import Source


def test_folders_are_species_and_names_tell_the_tape(tmp_path: Path) -> None:
    tone(tmp_path / "Bottlenose_Dolphin" / "8501204X.wav")
    tone(tmp_path / "Bottlenose_Dolphin" / "85012050.wav")
    tone(tmp_path / "Striped_Dolphin" / "8501204X.wav")
    tone(tmp_path / "best" / "Weddell Seal" / "song.wav")
    recordings, failures = listed(Source(tmp_path))
    assert not failures
    assert [(recording.id, recording.species, recording.group) for recording in recordings] == [
        ("Bottlenose_Dolphin/8501204X", ("Bottlenose Dolphin",), "85012"),
        ("Bottlenose_Dolphin/85012050", ("Bottlenose Dolphin",), "85012"),
        ("Striped_Dolphin/8501204X", ("Striped Dolphin",), "85012"),
        ("best/Weddell Seal/song", ("Weddell Seal",), "song"),
    ]
    assert recordings[0].common_names == ("Bottlenose Dolphin",)


def test_a_table_adds_facts(tmp_path: Path) -> None:
    tone(tmp_path / "Walrus" / "72021005.wav")
    write(
        tmp_path / "metadata.csv",
        "file_name,Scientific name,location,date,call_type,number,recordist\n"
        'Walrus/72021005.wav,Odobenus rosmarus,"Round Island, Аляска",1972-00-00,"knock, bell",3,C. Ray\n',
    )
    (recording,), failures = listed(Source(tmp_path))
    assert not failures
    assert (recording.species, recording.common_names) == (("Odobenus rosmarus",), ("Walrus",))
    assert (recording.region, recording.date) == ("Round Island, Аляска", "1972")
    assert (recording.call_types, recording.count) == (("knock", "bell"), 3)
    assert recording.recordist == "C. Ray"


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    folder = tmp_path / "watkins"
    tone(folder / "85012001.wav")
    tone(folder / "Walrus" / "72021005.wav")
    tone(folder / "Walrus" / "72021005.flac")
    (folder / "Walrus" / "72021006.wav").symlink_to(tmp_path / "secret.wav")
    rows = "Walrus/72021005.wav\nWalrus/72021005.wav\nWalrus/gone.wav\n../secret.wav\n"
    write(folder / "metadata.csv", f"file_name,location\n{rows}".replace(".wav\n", ".wav,\n"))
    recordings, failures = listed(Source(folder))
    assert [recording.file_name for recording in recordings] == ["Walrus/72021005.flac"]
    assert [failure.file_name for failure in failures] == [
        "metadata.csv line 3",
        "metadata.csv line 4",
        "metadata.csv line 5",
        "85012001.wav",
        "Walrus/72021005.wav",
        "Walrus/72021006.wav",
    ]


def test_a_folder_or_table_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no sounds"):
        listed(Source(tmp_path))
    tone(tmp_path / "Walrus" / "72021005.wav")
    write(tmp_path / "metadata.csv", "file,location\n")
    with pytest.raises(
        SourceError, match=r"metadata\.csv: no column file_name; its header has: file, location"
    ):
        listed(Source(tmp_path))
