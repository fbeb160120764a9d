from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

INFO = (
    "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n"
    "p225  23  F    English    Southern  England\n"
    "p280  25  M    Unknown    France  (mic2 files unavailable)\n"
    "s5    24  F    British    Oxford\n"
)


def spoken(folder: Path, name: str, text: str | None = "Please call Stella.") -> None:
    """name: speaker/utterance, with the microphone where there are two."""
    tone(folder / "wav48_silence_trimmed" / f"{name}.flac", rate=48000)
    if text is not None:
        write(folder / "txt" / f"{name.rpartition('_mic')[0] or name}.txt", text)


def test_one_recording_an_utterance_by_the_first_microphone(tmp_path: Path) -> None:
    write(tmp_path / "speaker-info.txt", INFO)
    for name in ("p225/p225_001_mic1", "p225/p225_001_mic2", "p225/p225_002_mic2"):
        spoken(tmp_path, name)
    spoken(tmp_path, "s5/s5_001_mic1", " Ask her to\nbring – café \n")
    (first, second, third), failures = listed(source_type("vctk")(tmp_path))
    assert not failures
    assert first.file_name == "wav48_silence_trimmed/p225/p225_001_mic1.flac"
    assert (first.id, first.kind, first.sex) == ("p225_001", "speech", "female")
    assert (first.recordist, first.group, first.license) == ("p225", "p225", "CC-BY-4.0")
    assert second.file_name == "wav48_silence_trimmed/p225/p225_002_mic2.flac"
    assert (third.id, third.sex, third.transcript) == ("s5_001", "female", "Ask her to bring – café")


def test_the_older_release(tmp_path: Path) -> None:
    root = tmp_path / "VCTK-Corpus"
    write(root / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION\n226  22  M    English    Surrey\n")
    tone(root / "wav48" / "p226" / "p226_003.wav", rate=48000)
    write(root / "txt" / "p226" / "p226_003.txt", "Six spoons.")
    for folder in (root, tmp_path):
        (recording,), failures = listed(source_type("vctk")(folder))
        assert not failures
        assert (recording.id, recording.sex, recording.transcript) == ("p226_003", "male", "Six spoons.")
        assert recording.license == "ODC-By-1.0"


def test_missing_and_damaged_texts_and_files_out_of_place(tmp_path: Path) -> None:
    write(tmp_path / "speaker-info.txt", INFO)
    spoken(tmp_path, "p280/p280_001_mic1", None)
    spoken(tmp_path, "p280/p280_002_mic1")
    (tmp_path / "txt" / "p280" / "p280_002.txt").write_bytes(b"caf\xe9")
    spoken(tmp_path, "p280/p225_009_mic1")
    spoken(tmp_path, "stray")
    (recording,), failures = listed(source_type("vctk")(tmp_path))
    assert (recording.id, recording.transcript) == ("p280_001", "")
    assert {failure.file_name for failure in failures} == {
        "txt/p280/p280_002.txt",
        "wav48_silence_trimmed/p280/p225_009_mic1.flac",
        "wav48_silence_trimmed/stray.flac",
    }


@pytest.mark.parametrize("info", [None, "ID  AGE  GENDER\np225 23 unknown\n\n"])
def test_without_speaker_info_the_sex_is_unknown_and_a_failure_says_so(
    tmp_path: Path, info: str | None
) -> None:
    if info:
        write(tmp_path / "speaker-info.txt", info)
    spoken(tmp_path, "p225/p225_001_mic1")
    (recording,), (failure,) = listed(source_type("vctk")(tmp_path))
    assert recording.sex == ""
    assert failure.file_name == "speaker-info.txt"


def test_a_folder_without_sounds(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="wav48"):
        listed(source_type("vctk")(tmp_path))
