import tempfile
from pathlib import Path

import pytest
from archives import tone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sources.files import (
    Ids,
    as_seconds,
    as_text,
    by_preference,
    sound_file,
    sound_names,
    without_suffix,
)


def test_sound_names_are_sorted_and_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.wav", "a/c.flac", "a/._c.flac", ".trash/d.wav"):
        tone(tmp_path / name).touch()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "E.MP3").touch()
    assert sound_names(tmp_path) == ["E.MP3", "a/c.flac", "b.wav"]


def test_lossless_files_come_first() -> None:
    assert by_preference(["b.mp3", "b.wav", "a.WAV", "c.flac"]) == ["c.flac", "a.WAV", "b.wav", "b.mp3"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.wav", "a"), ("a.b.FLAC", "a.b"), ("Y-0.b_c", "Y-0.b_c"), ("", ""), (".wav", ".wav")],
)
def test_only_suffixes_of_sounds_are_cut(name: str, stem: str) -> None:
    assert without_suffix(name) == stem


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())))
@example("1e999")
@example("\ud800")
def test_any_json_value_is_read(value: object) -> None:
    as_text(value).encode("utf-8")
    seconds = as_seconds(value)
    assert seconds is None or 0 <= seconds < float("inf")


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(st.characters()), st.sampled_from(["../out.wav", "in/../../out.wav", "x" * 300])))
@example("\ud800")
@example("\0")
def test_no_name_leads_outside_or_raises(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "archive"
        folder.mkdir()
        (Path(place) / "out.wav").touch()
        assert isinstance(sound_file("s", folder, name, "table line 2"), Failure)


def test_the_second_row_with_an_id_is_told_of_the_first() -> None:
    ids = Ids("s")
    assert ids.given_before("a", "line 2") is None
    assert ids.given_before("b", "line 3") is None
    failure = ids.given_before("a", "line 4")
    assert failure is not None
    assert (failure.source, failure.file_name) == ("s", "line 4")
    assert "line 2" in failure.cause
