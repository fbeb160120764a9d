"""Small Darwin Core archives for the tests of sources: unquoted, tab separated, as GBIF's software writes them."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

from archives import write

_DC = "http://purl.org/dc/terms/"
_DWC = "http://rs.tdwg.org/dwc/terms/"


def darwin_core(folder: Path, core: list[list[str]], media: list[list[str]]) -> Path:
    """Write meta.xml, occurrence.txt and multimedia.txt. core, media: a header of terms, then rows.

    The first column is the occurrence's id.
    """
    write(folder / "occurrence.txt", _text(core))
    write(folder / "multimedia.txt", _text(media))
    write(
        folder / "meta.xml",
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">'
        + _table("core", f"{_DWC}Occurrence", "occurrence.txt", "id", _fields(core[0], _DWC))
        + _table(
            "extension",
            "http://rs.gbif.org/terms/1.0/Multimedia",
            "multimedia.txt",
            "coreid",
            _fields(media[0], _DC),
        )
        + "</archive>",
    )
    return folder


def _text(rows: list[list[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def _fields(header: list[str], namespace: str) -> str:
    return "".join(
        f'<field index="{index}" term={quoteattr(namespace + term)}/>'
        for index, term in enumerate(header)
        if index
    )


def _table(tag: str, row_type: str, location: str, key: str, fields: str) -> str:
    return (
        f'<{tag} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy=""'
        f' ignoreHeaderLines="1" rowType="{row_type}"><files><location>{location}</location></files>'
        f'<{key} index="0"/>{fields}</{tag}>'
    )
