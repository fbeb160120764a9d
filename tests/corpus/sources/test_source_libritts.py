from pathlib import Path

import pytest
from archives import listed, tone, write

from naturelm.corpus.sources import SourceError, source_type

SPEAKERS_TSV = "READER\tGENDER\tSUBSET\tNAME\n84\tF\tdev-clean\tChristie Nowak\n174\tM\tdev-clean\n"
SPEAKERS_TXT = "; a comment | F\n;ID  |SEX| SUBSET |MINUTES| NAME\n84   | F | dev-clean | 8.02 | Søren\n"


def utterance(folder: Path, place: str, text: str | None = "Hello there.") -> None:
    """place: subset/speaker/chapter/utterance."""
    sound = tone(folder / f"{place}.wav", rate=24000)
    if text is not None:
        write(sound.with_name(sound.stem + ".normalized.txt"), text)


def test_utterances_with_sex_transcript_and_split(tmp_path: Path) -> None:
    root = tmp_path / "LibriTTS"
    write(root / "speakers.tsv", SPEAKERS_TSV)
    utterance(root, "dev-clean/84/121123/84_121123_000007_000001", "Go!\nDo you\thear?\n")
    utterance(root, "train-clean-100/174/50561/174_50561_000001_000000", "Ça va, Ольга")
    for folder in (root, tmp_path):
        (first, second), failures = listed(source_type("libritts")(folder))
        assert not failures
        assert (first.id, first.kind) == ("84_121123_000007_000001", "speech")
        assert (first.sex, first.recordist, first.group) == ("female", "84", "84/121123")
        assert (first.transcript, first.count) == ("Go! Do you hear?", 1)
        assert (first.split, second.split) == ("validation", "train")
        assert (second.sex, second.transcript) == ("male", "Ça va, Ольга")


def test_speakers_in_the_other_format_and_encoding(tmp_path: Path) -> None:
    (tmp_path / "SPEAKERS.txt").write_bytes(SPEAKERS_TXT.encode("latin-1"))
    utterance(tmp_path, "test-other/84/1/84_1_000000_000000")
    (recording,), failures = listed(source_type("libritts")(tmp_path))
    assert not failures
    assert (recording.sex, recording.split) == ("female", "test")


@pytest.mark.parametrize("speakers", [None, "READER\tGENDER\n84\tunknown\n"])
def test_without_speakers_the_sex_is_unknown_and_a_failure_says_so(
    tmp_path: Path, speakers: str | None
) -> None:
    if speakers:
        write(tmp_path / "speakers.tsv", speakers)
    utterance(tmp_path, "dev-clean/84/1/84_1_000000_000000")
    (recording,), (failure,) = listed(source_type("libritts")(tmp_path))
    assert recording.sex == ""
    assert failure.file_name == "speakers.tsv"


def test_transcripts_that_are_missing_or_damaged(tmp_path: Path) -> None:
    write(tmp_path / "speakers.tsv", SPEAKERS_TSV)
    utterance(tmp_path, "dev-clean/84/1/84_1_0_0", None)
    utterance(tmp_path, "dev-clean/84/1/84_1_0_1", None)
    (tmp_path / "dev-clean/84/1/84_1_0_1.normalized.txt").write_bytes(b"caf\xe9")
    utterance(tmp_path, "dev-clean/84/1/84_1_0_2", None)
    write(tmp_path / "dev-clean/84/1/84_1_0_2.original.txt", "Mr. Smith")
    recordings, failures = listed(source_type("libritts")(tmp_path))
    assert [(each.id, each.transcript) for each in recordings] == [
        ("84_1_0_0", ""),
        ("84_1_0_2", "Mr. Smith"),
    ]
    assert [failure.file_name for failure in failures] == ["dev-clean/84/1/84_1_0_1.wav"]


def test_files_out_of_place_twice_or_linked_to_outside(tmp_path: Path) -> None:
    root = tmp_path / "LibriTTS"
    write(root / "speakers.tsv", SPEAKERS_TSV)
    for subset in ("dev-clean", "dev-other"):
        utterance(root, f"{subset}/84/1/84_1_0_0")
    utterance(root, "dev-other/stray")
    tone(tmp_path / "secret.wav")
    (root / "dev-other" / "84" / "1" / "84_1_9_9.wav").symlink_to(tmp_path / "secret.wav")
    (recording,), failures = listed(source_type("libritts")(root))
    assert recording.file_name == "dev-clean/84/1/84_1_0_0.wav"
    assert {failure.file_name: failure.cause.split(";")[0] for failure in failures} == {
        "dev-other/84/1/84_1_0_0.wav": "the same recording as dev-clean/84/1/84_1_0_0.wav",
        "dev-other/84/1/84_1_9_9.wav": "names no file of the archive",
        "dev-other/stray.wav": "not in <subset>/<speaker>/<chapter>/ like an utterance",
    }


def test_a_folder_without_subsets(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no subset"):
        listed(source_type("libritts")(tmp_path))
