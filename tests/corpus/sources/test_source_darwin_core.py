from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from archives import write
from darwin_core_archives import darwin_core
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.darwin_core import Table, read_archive, sound_rows
from naturelm.corpus.sources.fields import iso_date, listed_words

CORE = [["id", "scientificName"], ["1", "Corvus corax"]]
MEDIA = [["coreid", "identifier", "type"], ["1", "https://example.org/a.wav", "Sound"]]

BOMB = """<?xml version="1.0"?>
<!DOCTYPE archive [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<archive xmlns="http://rs.tdwg.org/dwc/text/">&b;</archive>
"""


def test_terms_are_read_by_the_columns_of_meta_xml(tmp_path: Path) -> None:
    (row,) = sound_rows(read_archive(darwin_core(tmp_path, CORE, MEDIA), "it"), "s")
    assert not isinstance(row, Failure)
    assert row.where == "multimedia.txt line 2"
    assert row.occurrence == {"scientificName": "Corvus corax"}
    assert row.address == "https://example.org/a.wav"


def test_a_sound_of_an_unknown_occurrence_is_a_failure(tmp_path: Path) -> None:
    media = [*MEDIA, ["2", "https://example.org/b.wav", "Sound"], ["", "https://example.org/c.wav", "Sound"]]
    rows = list(sound_rows(read_archive(darwin_core(tmp_path, CORE, media), "it"), "s"))
    failures = [row for row in rows if isinstance(row, Failure)]
    assert [failure.file_name for failure in failures] == ["multimedia.txt line 3", "multimedia.txt line 4"]


def test_default_delimiters_and_default_values(tmp_path: Path) -> None:
    write(
        tmp_path / "meta.xml",
        '<archive xmlns="http://rs.tdwg.org/dwc/text/"><core ignoreHeaderLines="1">'
        '<files><location>o.csv</location></files><id index="1"/>'
        '<field index="0" term="http://rs.tdwg.org/dwc/terms/scientificName"/>'
        '<field default="Germany" term="http://rs.tdwg.org/dwc/terms/country"/></core>'
        '<extension encoding="ISO-8859-1" rowType="http://rs.tdwg.org/ac/terms/Multimedia">'
        '<files><location>m.csv</location></files><coreid index="0"/>'
        '<field index="1" term="http://rs.tdwg.org/ac/terms/accessURI"/>'
        '<field index="2" term="http://purl.org/dc/terms/creator"/></extension></archive>',
    )
    write(tmp_path / "o.csv", 'name,id\n"Corvus corax, L.",7\n')
    (tmp_path / "m.csv").write_bytes("7,https://example.org/a.flac,Müller\n".encode("latin-1"))
    (row,) = sound_rows(read_archive(tmp_path, "it"), "s")
    assert not isinstance(row, Failure)
    assert row.occurrence == {"scientificName": "Corvus corax, L.", "country": "Germany"}
    assert row.media["creator"] == "Müller"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "meta.xml").write_bytes(BOMB.encode(encoding))
    with pytest.raises(SourceError, match=r"meta\.xml: has a DOCTYPE"):
        read_archive(tmp_path, "it")


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("<location>occurrence.txt", "<location>../occurrence.txt", "one file of the archive"),
        ("<location>occurrence.txt", "<location>/etc/passwd", "one file of the archive"),
        ("<location>multimedia.txt", "<location>gone.txt", "gone.txt: not found"),
        ('<id index="0"/>', "", "has no <id>"),
        ('<id index="0"/>', '<id index="-1"/>', "no column or line number"),
        ('encoding="UTF-8"', 'encoding="rot13"', "cannot be read as a table"),
        ('fieldsTerminatedBy="\\t"', 'fieldsTerminatedBy="ab"', "cannot be read as a table"),
        ("1.0/Multimedia", "1.0/Identification", "no multimedia extension"),
        ("</archive>", "", "not well-formed"),
        ("dwc/text/", "other/", "no core"),
    ],
)
def test_a_meta_xml_that_cannot_be_used_is_named(tmp_path: Path, old: str, new: str, cause: str) -> None:
    meta = darwin_core(tmp_path, CORE, MEDIA) / "meta.xml"
    text = meta.read_text()
    assert old in text
    meta.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=cause) as raised:
        list(sound_rows(read_archive(tmp_path, "it"), "s"))
    assert "\n" not in str(raised.value)


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    darwin_core(tmp_path, CORE, MEDIA)
    (tmp_path / "occurrence.txt").write_bytes(b"id\tscientificName\n1\tB\xfcffel\n")
    with pytest.raises(SourceError, match=r"occurrence\.txt: not UTF-8 text"):
        list(sound_rows(read_archive(tmp_path, "it"), "s"))


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\t\r\n\0", exclude_categories=("Zl", "Zp", "Cc")),
    min_size=1,
    max_size=8,
).map(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(cells.filter(bool), min_size=3, max_size=3), min_size=1, max_size=5))
def test_unquoted_rows_come_back_as_they_were_written(rows: list[list[str]]) -> None:
    with TemporaryDirectory() as place:
        path = write(Path(place) / "t.txt", "".join("\t".join(row) + "\n" for row in rows))
        table = Table(path, "", 0, {1: "a", 2: "b"}, delimiter="\t", quote="", header_lines=0)
        read = [[key, terms["a"], terms["b"]] for _, key, terms in table.rows()]
    first = rows[0][0].removeprefix("\ufeff")
    assert read == [[first, *rows[0][1:]], *rows[1:]]


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2011-04-09", "2011-04-09"),
        ("2011-4-9", "2011-04-09"),
        ("2011-04-00", "2011-04"),
        ("2011-00-00", "2011"),
        ("0000-00-00", ""),
        ("2011", "2011"),
        ("2011-04-09T05:00:00Z", "2011-04-09T05:00:00Z"),
        ("2011-04-09/2011-04-11", "2011-04-09/2011-04-11"),
        ("2011-04-09 05:00", "2011-04-09"),
        ("09.04.2011", ""),
        ("2011-13-01", ""),
        ("20110409", ""),
        ("", ""),
    ],
)
def test_dates_are_iso_as_far_as_they_are_known(text: str, date: str) -> None:
    assert iso_date(text) == date


@given(st.dates())
def test_every_iso_date_is_kept(day: object) -> None:
    assert iso_date(str(day)) == str(day)


@given(st.text())
def test_lists_have_no_empty_and_no_second_words(text: str) -> None:
    words = listed_words(text)
    assert all(word == word.strip() and word for word in words)
    assert len(set(words)) == len(words)
    assert listed_words(", ".join(words)) == words
