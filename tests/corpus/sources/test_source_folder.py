import csv
import io
import tempfile
import unicodedata
from pathlib import Path

import pytest
from archives import listed, tone, write
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.recordings import Failure, FileSound, Recording
from naturelm.corpus.sources import SourceError, source_type


def described(folder: Path, table: str, *sounds: str) -> tuple[list[Recording], list[Failure]]:
    for name in sounds:
        tone(folder / name)
    write(folder / "metadata.csv", table)
    return listed(source_type("folder")(folder))


def test_every_column_is_taken(tmp_path: Path) -> None:
    table = (
        "file,species,common_name,background,labels,caption,life_stage,sex,call_type,count,recordist,group,"
        "region,date,license,split,kind\n"
        "a/b/owl.wav,Strix aluco; Bubo bubo ,Tawny Owl;Eagle Owl,Rana temporaria,rain;wind,"
        '"Owls, calling.",adult,male,song;duet,2,Ольга,night 7,Polska,2021-05-31,CC0-1.0,test,animal\n'
    )
    (owl,), failures = described(tmp_path, table, "a/b/owl.wav")
    assert not failures
    assert (owl.id, owl.file_name) == ("a/b/owl.wav", "a/b/owl.wav")
    assert owl.species == ("Strix aluco", "Bubo bubo")
    assert owl.common_names == ("Tawny Owl", "Eagle Owl")
    assert (owl.background, owl.labels) == (("Rana temporaria",), ("rain", "wind"))
    assert (owl.caption, owl.life_stage, owl.sex) == ("Owls, calling.", "adult", "male")
    assert (owl.call_types, owl.count, owl.recordist) == (("song", "duet"), 2, "Ольга")
    assert (owl.group, owl.region, owl.date) == ("night 7", "Polska", "2021-05-31")
    assert (owl.license, owl.split, owl.kind) == ("CC0-1.0", "test", "animal")


def test_the_kind_follows_from_the_columns_that_are_filled(tmp_path: Path) -> None:
    table = (
        "file,species,common_name,labels,instrument,pitch,transcript,kind\n"
        "1.wav,Bufo bufo,,,,,,\n2.wav,,toad,,,,,\n3.wav,,,rain,,,,\n4.wav,,,,flute,60,,\n"
        "5.wav,,,,,,Hello.,\n6.wav,,,rain,,,,noise\n"
    )
    recordings, failures = described(tmp_path, table, *(f"{number}.wav" for number in range(1, 7)))
    assert not failures
    kinds = ["animal", "animal", "environment", "music", "speech", "noise"]
    assert [recording.kind for recording in recordings] == kinds
    assert (recordings[1].species, recordings[1].common_names) == (("toad",), ())
    assert (recordings[3].instrument, recordings[3].pitch) == ("flute", 60)
    assert recordings[4].transcript == "Hello."
    assert {recording.license for recording in recordings} == {"unknown"}


def test_rows_with_times_are_clips_of_the_file(tmp_path: Path) -> None:
    tone(tmp_path / "long.wav", seconds=3, rate=16000)
    table = "File Name,Start,End,species\nlong.wav,0.5,1.25,A a\nlong.wav,2,,B b\nlong.wav,,1,C c\nlong.wav,,,D d\n"
    recordings, failures = described(tmp_path, table)
    assert not failures
    assert [len(recording.sound.read()) for recording in recordings] == [12000, 16000, 16000, 48000]
    assert [recording.duration for recording in recordings] == [0.75, None, 1.0, None]
    assert {recording.group for recording in recordings} == {"long.wav"}
    assert len({recording.id for recording in recordings}) == 4


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    rows = {
        "a.wav,A a,,,,": "",
        "a.wav,B b,,,,": "the same recording as metadata.csv line 2",
        "a.wav,A a,-1,,,": "start '-1'",
        "a.wav,A a,2,1,,": "end 1 is not after start 2",
        "a.wav,A a,,nan,,": "end 'nan'",
        "a.wav,A a,,,0,": "count '0'",
        "a.wav,A a,,,two,": "count 'two'",
        "a.wav,A a,,,,1/2/2020": "date '1/2/2020'",
        "a.wav,A a,,,,,one, more": "more fields than the header",
        ",A a,,,,": "names no file",
        "../secret.wav,A a,,,,": "names no file of the archive",
        "gone.wav,A a,,,,": "no such file",
    }
    tone(tmp_path / "secret.wav")
    table = "file,species,start,end,count,date\n" + "".join(f"{row}\n" for row in rows)
    recordings, failures = described(tmp_path / "mine", table, "a.wav")
    assert len(recordings) == 1
    causes = list(rows.values())[1:]
    assert len(failures) == len(causes)
    for failure, cause in zip(failures, causes, strict=True):
        assert cause in failure.cause
    assert failures[0].file_name == "metadata.csv line 3"
    assert failures[-1].file_name == "gone.wav"


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("split", "dev", "none of train, validation, test"),
        ("kind", "bird", "none of animal, environment"),
        ("pitch", "128", "no MIDI note number"),
        ("common_name", "one;two", "1 in species but 2 in common_name"),
    ],
)
def test_values_that_are_not_allowed(tmp_path: Path, column: str, value: str, cause: str) -> None:
    recordings, (failure,) = described(tmp_path, f"file,species,{column}\na.wav,A a,{value}\n", "a.wav")
    assert not recordings
    assert cause in failure.cause


def test_columns_that_are_not_used_and_sounds_that_no_row_names_are_said(tmp_path: Path) -> None:
    table = "File,Begin File,species,weather,observer\na.wav,x,A a,fair,me\n"
    (recording,), failures = described(tmp_path, table, "a.wav", "deep/down/b.flac", "deep/._b.flac")
    assert recording.file_name == "a.wav"
    assert [failure.file_name for failure in failures] == ["metadata.csv", "deep/down/b.flac"]
    assert failures[0].cause.startswith("columns not used: weather, observer, Begin File;")


def test_names_in_other_spellings_are_found(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "été/Сова.wav")
    table = f"file,species\n{unicodedata.normalize('NFC', 'été')}\\Сова.wav,Strix aluco\n"
    table += f"été/.././b.wav,Rana\n{tmp_path / 'c.wav'},Bufo\n"
    (owl, frog, toad), failures = described(tmp_path, table, decomposed, "b.wav", "c.wav")
    assert not failures
    assert owl.file_name == decomposed
    assert (frog.file_name, toad.id) == ("b.wav", "c.wav")


def test_a_tab_separated_table_elsewhere(tmp_path: Path) -> None:
    tone(tmp_path / "sounds" / "a.wav")
    table = write(tmp_path / "labels.tsv", "filename\tcaption\na.wav\tA toad, calling.\n")
    (recording,), failures = listed(source_type("folder")(tmp_path / "sounds", table))
    assert not failures
    assert recording.caption == "A toad, calling."


def test_without_a_table_the_sub_folder_is_the_label(tmp_path: Path) -> None:
    for name in ("barn_owl/1.wav", "night/雨/2.wav", "loose.wav"):
        tone(tmp_path / name)
    (owl, rain), (failure,) = listed(source_type("folder")(tmp_path))
    assert (owl.id, owl.labels, owl.kind) == ("barn_owl/1.wav", ("barn owl",), "environment")
    assert rain.labels == ("雨",)
    assert failure.file_name == "loose.wav"


@pytest.mark.parametrize("table", ["", "file,species\nowl/می\u200cخوانم.wav,Strix aluco\n"])
def test_a_file_name_that_is_no_text_is_a_failure(tmp_path: Path, table: str) -> None:
    tone(tmp_path / "owl" / "می\u200cخوانم.wav")
    for bad in ("caf\udce9.wav", "two\nlines.wav"):
        tone(tmp_path / "owl" / "a.wav").rename(tmp_path / "owl" / bad)
    if table:
        write(tmp_path / "metadata.csv", table)
    (recording,), failures = listed(source_type("folder")(tmp_path))
    assert recording.file_name == "owl/می\u200cخوانم.wav"
    assert [failure.file_name for failure in failures] == [r"'owl/caf\udce9.wav'", r"'owl/two\nlines.wav'"]
    assert {failure.cause for failure in failures} == {"its name has bytes that are no text; rename the file"}


def test_a_link_to_outside_the_folder_is_refused(tmp_path: Path) -> None:
    tone(tmp_path / "secret.wav")
    (tmp_path / "mine" / "owl").mkdir(parents=True)
    (tmp_path / "mine" / "owl" / "a.wav").symlink_to(tmp_path / "secret.wav")
    recordings, (failure,) = listed(source_type("folder")(tmp_path / "mine"))
    assert not recordings
    assert "names no file of the archive" in failure.cause


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"species,count\nA a,1\n", r"no column file \(or file_name, filename, path, begin_file\)"),
        (b"", "no column file"),
        (b"file,species,species\na.wav,A a,B b\n", "column species is there twice"),
        (b"file,species\na.wav,caf\xe9\n", "save it as UTF-8"),
        (b"file,caf\xe9\n", "save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, table: bytes, message: str) -> None:
    (tmp_path / "metadata.csv").write_bytes(table)
    with pytest.raises(SourceError, match=message):
        listed(source_type("folder")(tmp_path))


def test_a_missing_table_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"labels.csv: not found"):
        listed(source_type("folder")(tmp_path, tmp_path / "labels.csv"))
    with pytest.raises(SourceError, match=r"no sounds and no metadata.csv"):
        listed(source_type("folder")(tmp_path))


NAMES = st.one_of(st.sampled_from(["a.wav", "b/c.wav", "../out.wav", "/etc/passwd", ""]), st.text(max_size=8))
NUMBERS = st.one_of(st.sampled_from(["", "0", "1", "0.25", "1e400", "-1", "2"]), st.text(max_size=3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.text(max_size=5), NUMBERS, NUMBERS, NUMBERS), max_size=6))
def test_every_row_and_every_sound_is_accounted_for(rows: list[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("file", "species", "start", "end", "count"), *rows])
    with tempfile.TemporaryDirectory() as place:
        tone(Path(place) / "out.wav", seconds=0.1, rate=8000)
        folder = Path(place) / "mine"
        for name in ("a.wav", "b/c.wav"):
            tone(folder / name, seconds=0.1, rate=8000)
        (folder / "metadata.csv").write_bytes(text.getvalue().encode("utf-8", "replace"))
        answers = list(source_type("folder")(folder).recordings())
        recordings = [row for row in answers if isinstance(row, Recording)]
        for recording in recordings:
            assert isinstance(recording.sound, FileSound)
            assert recording.sound.path.resolve().is_relative_to(folder.resolve())
        assert len({recording.id for recording in recordings}) == len(recordings)
        unnamed = [row for row in answers if isinstance(row, Failure) and "no row of" in row.cause]
        assert len(answers) - len(unnamed) == len(rows)
        named = {name.strip() for name, *_ in rows}
        assert {"a.wav", "b/c.wav"} - {row.file_name for row in unnamed} <= {
            name.replace("\\", "/").removeprefix("./") for name in named
        }
