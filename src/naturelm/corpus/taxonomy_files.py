"""Files that taxonomies come in: the GBIF backbone, the eBird/Clements checklist, and our own table.

GBIF backbone (doi.org/10.15468/39omei): a Darwin Core archive whose `Taxon.tsv` and
`VernacularName.tsv` are tab-separated without quoting, or `simple.txt`, the same as a PostgreSQL copy
without a header, whose columns GBIF's checklistbank defines in `backbone-ddl.sql`.
"""

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from naturelm.corpus.taxonomy_names import Taxon, TaxonomyError, common_key, latin_key, name_keys

Kind = Literal["gbif", "clements", "table"]

_TAXA, _VERNACULARS = "Taxon.tsv", "VernacularName.tsv"
_LONGEST_LINE = 1 << 20  # characters; a hostile archive may unpack to one endless line
_AGAIN = "download it again"


def kind_of(path: Path) -> Kind:
    """The format that a path is in; TaxonomyError when it is none that is known."""
    if path.is_dir() or path.suffix.lower() in (".zip", ".tsv", ".txt", ".gz"):
        return "gbif"
    columns = {_column(name) for name in next(_csv_rows(path), (0, []))[1]}
    if _column("scientific_name") in columns and "rank" in columns:
        return "table"
    if "category" in columns:
        return "clements"
    raise TaxonomyError(
        f"{path}: not a taxonomy that can be read; give the GBIF backbone, an eBird/Clements checklist,"
        " or a CSV with the columns scientific_name and rank"
    )


# Our own table

_LISTS = ("other_names", "synonyms")
_COLUMNS = {
    "scientific_name": "scientific_name",
    "rank": "rank",
    "common_name": "common_name",
    "other_names": "other_names",
    "synonyms": "synonyms",
    "genus": "genus",
    "family": "family",
    "order": "order",
    "class": "class_name",
    "phylum": "phylum",
}
RANKS = ("subspecies", "species", "genus", "family", "order", "class", "phylum")


def read_table(path: Path) -> Iterator[Taxon]:
    """Taxa of a table as `write_table` writes it."""
    rows = _csv_rows(path)
    _, header = next(rows, (0, []))
    places = _places(path, header, ("scientific_name", "rank"))
    seen: dict[str, int] = {}
    for line, row in rows:
        cells = {name: _cell(row, places.get(name)) for name in _COLUMNS}
        key = latin_key(cells["scientific_name"])
        if not key:
            raise TaxonomyError(
                f"{path}: line {line} has no scientific_name; fill it in or take the line out"
            )
        if cells["rank"] not in RANKS:
            raise TaxonomyError(f"{path}: line {line}: rank {cells['rank']!r}; use one of {', '.join(RANKS)}")
        if key in seen:
            raise TaxonomyError(
                f"{path}: line {line} repeats the taxon of line {seen[key]}; take one of them out"
            )
        seen[key] = line
        lists = {
            name: tuple(part.strip() for part in cells[name].split("|") if part.strip()) for name in _LISTS
        }
        texts = {_COLUMNS[name]: text for name, text in cells.items() if name not in _LISTS}
        yield Taxon(**texts, synonyms=lists["synonyms"], other_names=lists["other_names"])


def write_table(path: Path, taxa: Iterable[Taxon]) -> None:
    """Write taxa as CSV, lists in a cell parted by ` | `; TaxonomyError for a name that would break it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for taxon in taxa:
            for name in (*taxon.synonyms, *taxon.other_names):
                if "|" in name:
                    raise TaxonomyError(f"{taxon.scientific_name}: the name {name!r} has a |; take it out")
            cells = (getattr(taxon, field) for field in _COLUMNS.values())
            writer.writerow(" | ".join(cell) if isinstance(cell, tuple) else cell for cell in cells)


# The eBird/Clements checklist

_CLEMENTS_COLUMNS = {
    "category": ("category",),
    "scientific name": ("scientific name", "SCI_NAME", "SCIENTIFIC_NAME"),
    "English name": ("English name", "PRIMARY_COM_NAME", "COMMON_NAME"),
    "order": ("order", "ORDER1"),
    "family": ("family", "FAMILY_SCI_NAME"),
}
_CLEMENTS_RANKS = {"species": "species", "subspecies": "subspecies", "issf": "subspecies"}


def read_clements(path: Path) -> Iterator[Taxon]:
    """Birds of a checklist, one at a time: rows of the categories species, subspecies and issf."""
    rows = _csv_rows(path)
    _, header = next(rows, (0, []))
    found = {_column(name): place for place, name in reversed(list(enumerate(header)))}
    places = {
        name: next((found[key] for key in map(_column, spellings) if key in found), None)
        for name, spellings in _CLEMENTS_COLUMNS.items()
    }
    missing = [" or ".join(_CLEMENTS_COLUMNS[name]) for name, place in places.items() if place is None]
    if missing:
        raise TaxonomyError(
            f"{path}: no column {'; '.join(missing)}; save the checklist as CSV with its header"
        )
    for line, row in rows:
        cells = {name: _cell(row, place) for name, place in places.items()}
        rank = _CLEMENTS_RANKS.get(cells["category"].lower())
        if rank is None:
            continue
        if not latin_key(cells["scientific name"]):
            raise TaxonomyError(f"{path}: line {line} has no scientific name; {_AGAIN}")
        yield Taxon(
            cells["scientific name"],
            cells["English name"],
            genus=cells["scientific name"].split()[0],
            family=cells["family"].partition("(")[0].strip(),
            order=cells["order"],
            class_name="Aves",
            phylum="Chordata",
            rank=rank,
        )


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with their line numbers, the header first.

    Some years of the checklist are saved in Windows' own encoding rather than UTF-8.
    """
    with _reporting(path):
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
        if "\0" in text:
            raise TaxonomyError(f"{path}: not a text file; save the table as CSV in UTF-8")
        reader = csv.reader(io.StringIO(text, newline=""))
        for row in reader:
            if any(row):
                yield reader.line_num, row


def _places(path: Path, header: Sequence[str], required: Sequence[str]) -> dict[str, int]:
    places = {name.strip(): place for place, name in enumerate(header)}
    missing = [name for name in required if name not in places]
    if missing:
        found = ", ".join(header)[:200] or "nothing"
        raise TaxonomyError(f"{path}: no column {', '.join(missing)}; its header has: {found}")
    return places


def _column(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip().lower()


def _cell(row: Sequence[str], place: int | None) -> str:
    return row[place].strip() if place is not None and place < len(row) else ""


# The GBIF backbone

_ABOVE = ("phylum", "class", "order", "family", "genus")
_KEPT_RANKS = {"species", *_ABOVE}
_BELOW_SPECIES = {"subspecies", "variety", "form"}
_TAXON_COLUMNS = (
    "taxonID",
    "parentNameUsageID",
    "acceptedNameUsageID",
    "scientificName",
    "canonicalName",
    "taxonRank",
    "taxonomicStatus",
    "kingdom",
    *_ABOVE,
)
_KINGDOM_KEYS = {
    "Animalia": "1",
    "Archaea": "2",
    "Bacteria": "3",
    "Chromista": "4",
    "Fungi": "5",
    "Plantae": "6",
    "Protozoa": "7",
    "Viruses": "8",
}
_SIMPLE_COLUMNS = 30
_ISO_639_3 = {"en": "eng", "de": "deu", "fr": "fra", "es": "spa", "pt": "por", "nl": "nld"}


class _Name(NamedTuple):
    """A row of the backbone."""

    id: str
    parent: str
    accepted: str
    """Of a synonym, the id of the accepted name; otherwise empty."""
    name: str
    rank: str
    doubtful: bool
    above: tuple[str, ...]
    """Phylum, class, order, family, genus."""


class _Vernacular(NamedTuple):
    id: str
    name: str


def read_gbif(
    path: Path, wanted: Collection[str] | None, kingdom: str, languages: Collection[str]
) -> list[Taxon]:
    """Taxa of the backbone; see `Taxonomy.from_gbif`. The files are streamed twice, never held."""
    if kingdom not in _KINGDOM_KEYS:
        raise TaxonomyError(f"{kingdom!r}: no kingdom of the backbone; use one of {', '.join(_KINGDOM_KEYS)}")
    backbone = _Simple(path, kingdom) if _is_simple(path) else _Archive(path, kingdom)
    species_of, needed = _chosen(backbone, wanted, languages)
    taxa: dict[str, _Name] = {}
    synonyms: dict[str, list[str]] = defaultdict(list)
    for row in backbone.names():
        home = species_of.get(row.accepted or row.id, row.accepted or row.id)
        if needed is not None and home not in needed:
            continue
        if row.id == home and row.rank in _KEPT_RANKS:
            taxa[home] = row
        elif row.id != home:
            synonyms[home].append(row.name)
    english: dict[str, list[str]] = defaultdict(list)
    for vernacular in backbone.vernaculars(languages):
        home = species_of.get(vernacular.id, vernacular.id)
        if home in taxa:
            english[home].append(vernacular.name)
    order = sorted(taxa.values(), key=lambda row: row.doubtful)  # of two namesakes the accepted one stays
    return [_taxon(row, synonyms.get(row.id, []), english.get(row.id, [])) for row in order]


def _chosen(
    backbone: "_Archive | _Simple", wanted: Collection[str] | None, languages: Collection[str]
) -> tuple[dict[str, str], set[str] | None]:
    """Of each taxon below species its species, and the ids of the taxa that are wanted (None: all)."""
    keys = None if wanted is None else name_keys(wanted)
    hits: set[str] = set()
    if keys is not None:
        hits = {row.id for row in backbone.vernaculars(languages) if common_key(row.name) in keys}
    parents: dict[str, str] = {}
    for row in backbone.names():
        if row.rank in _BELOW_SPECIES and not row.accepted:
            parents[row.id] = row.parent
        if keys is not None and latin_key(row.name) in keys:
            hits.add(row.accepted or row.id)
    # A form may belong to a subspecies; a chain longer than that is a loop in a damaged file.
    species_of = {
        id: parents.get(parents.get(parent, parent), parents.get(parent, parent))
        for id, parent in parents.items()
    }
    return species_of, None if keys is None else {species_of.get(id, id) for id in hits}


def _taxon(row: _Name, synonyms: Iterable[str], common_names: Iterable[str]) -> Taxon:
    """A taxon whose common name is the one that most of the backbone's sources give."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in common_names:
        spellings[common_key(name)].append(name)
    names = [
        Counter(alike).most_common(1)[0][0] for alike in sorted(spellings.values(), key=len, reverse=True)
    ]
    phylum, class_name, order, family, genus = row.above
    # A subspecies that only adds a word to its species' name needs no entry.
    others = [name for name in dict.fromkeys(synonyms) if not f"{name} ".startswith(f"{row.name} ")]
    return Taxon(
        row.name,
        names[0] if names else "",
        genus,
        family,
        order,
        class_name,
        phylum,
        row.rank,
        tuple(others),
        tuple(names[1:]),
    )


class _Archive:
    """`Taxon.tsv` and `VernacularName.tsv`, in a folder or a zip file that is read without unpacking."""

    def __init__(self, path: Path, kingdom: str) -> None:
        self._path = path if path.suffix.lower() != ".tsv" else path.parent
        self._kingdom = kingdom

    def names(self) -> Iterator[_Name]:
        with self._table(_TAXA) as (path, file):
            if file is None:
                raise TaxonomyError(
                    f"{path}: not found; give the unpacked backbone, backbone.zip or simple.txt.gz"
                )
            for row in self._rows(path, file, _TAXON_COLUMNS):
                id, parent, accepted, scientific, canonical, rank, status, kingdom, *above = row
                rank = rank.lower()
                if kingdom == self._kingdom and rank in (_KEPT_RANKS | _BELOW_SPECIES) and _is_used(status):
                    yield _Name(
                        id,
                        parent,
                        accepted if accepted != id else "",
                        canonical or scientific,
                        rank,
                        status.lower() == "doubtful",
                        tuple(above),
                    )

    def vernaculars(self, languages: Collection[str]) -> Iterator[_Vernacular]:
        codes = {code for language in languages for code in (language, _ISO_639_3.get(language, language))}
        with self._table(_VERNACULARS) as (path, file):
            if file is None:
                return
            for id, name, language in self._rows(path, file, ("taxonID", "vernacularName", "language")):
                if language in codes and name:
                    yield _Vernacular(id, name)

    @staticmethod
    def _rows(path: str, file: TextIO, columns: Sequence[str]) -> Iterator[list[str]]:
        lines = _lines(Path(path), file)
        header = next(lines, "").rstrip("\r\n").split("\t")
        found = _places(Path(path), header, columns)
        places = [found[name] for name in columns]
        for number, line in enumerate(lines, 2):
            row = line.rstrip("\r\n").split("\t")
            if len(row) != len(header):
                raise TaxonomyError(
                    f"{path}: line {number} has {len(row)} of {len(header)} columns; {_AGAIN}"
                )
            yield [row[place].strip() for place in places]

    @contextmanager
    def _table(self, name: str) -> Iterator[tuple[str, TextIO | None]]:
        """A table of the archive, as its path for messages and its text; None if it is not there."""
        if self._path.suffix.lower() != ".zip":
            path = self._path / name
            with _reporting(path):
                if not path.is_file():
                    yield str(path), None
                    return
                with path.open(encoding="utf-8-sig", newline="\n") as file:
                    yield str(path), file
            return
        with _reporting(self._path), zipfile.ZipFile(self._path) as archive:
            member = next((part for part in archive.namelist() if part.rsplit("/", 1)[-1] == name), None)
            if member is None:
                yield f"{self._path}/{name}", None
                return
            with archive.open(member) as packed, io.TextIOWrapper(packed, "utf-8-sig", newline="\n") as file:
                yield f"{self._path}/{member}", file


class _Simple:
    """`simple.txt` or `simple.txt.gz`: ranks above a name are given by their ids."""

    def __init__(self, path: Path, kingdom: str) -> None:
        files = [path / "simple.txt", path / "simple.txt.gz"] if path.is_dir() else [path]
        self._path = next((file for file in files if file.is_file()), files[0])
        self._kingdom = _KINGDOM_KEYS[kingdom]
        self._above: dict[str, str] = {}

    def names(self) -> Iterator[_Name]:
        if not self._above:
            self._above = {row[0]: row[19] or row[18] for row in self._rows() if row[5].lower() in _ABOVE}
        for row in self._rows():
            rank, status = row[5].lower(), row[4]
            if rank not in (_KEPT_RANKS | _BELOW_SPECIES) or not _is_used(status):
                continue
            above = tuple(self._above.get(key, "") for key in row[11:16])
            # A synonym's parent is its accepted name.
            accepted = row[1] if row[3] == "t" else ""
            yield _Name(
                row[0], row[1], accepted, row[19] or row[18], rank, status.lower() == "doubtful", above
            )

    def vernaculars(self, languages: Collection[str]) -> Iterator[_Vernacular]:
        """None: this dump has no common names."""
        return iter(())

    def _rows(self) -> Iterator[list[str]]:
        with _reporting(self._path), self._open() as file:
            for number, line in enumerate(_lines(self._path, file), 1):
                row = ["" if cell == r"\N" else cell for cell in line.rstrip("\r\n").split("\t")]
                if len(row) != _SIMPLE_COLUMNS or not row[0].isdigit():
                    raise TaxonomyError(
                        f"{self._path}: line {number} is no row of GBIF's simple.txt"
                        f" ({len(row)} of {_SIMPLE_COLUMNS} columns); {_AGAIN}"
                    )
                if row[10] == self._kingdom:
                    yield row

    def _open(self) -> TextIO:
        if self._path.suffix.lower() == ".gz":
            return gzip.open(self._path, "rt", encoding="utf-8", newline="\n")
        return self._path.open(encoding="utf-8", newline="\n")


def _is_simple(path: Path) -> bool:
    if path.is_dir():
        return not (path / _TAXA).is_file() and any(
            (path / name).is_file() for name in ("simple.txt", "simple.txt.gz")
        )
    return path.suffix.lower() in (".txt", ".gz")


def _is_used(status: str) -> bool:
    """A misapplied name stands for another animal than the one it was given to."""
    return status.lower() != "misapplied"


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise TaxonomyError(f"{path}: a line has over {_LONGEST_LINE} characters; {_AGAIN}")
        yield line


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file raises into TaxonomyError."""
    try:
        yield
    except FileNotFoundError as error:
        raise TaxonomyError(f"{path}: no such file; give the path of a taxonomy") from error
    except (
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        RuntimeError,  # zipfile: a password is needed, or a compression that it does not know
    ) as error:
        raise TaxonomyError(f"{path}: damaged archive ({error}); {_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{path}: not UTF-8 text ({error.reason}); {_AGAIN}") from error
    except OSError as error:
        raise TaxonomyError(f"{path}: {error.strerror or error}; see that it can be read") from error
    except csv.Error as error:
        raise TaxonomyError(f"{path}: no readable CSV ({error}); save the table as CSV again") from error
