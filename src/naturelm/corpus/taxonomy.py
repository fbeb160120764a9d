"""What an animal is called: scientific, common and outdated names brought to one accepted taxon."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from naturelm.corpus import taxonomy_files
from naturelm.corpus.taxonomy_names import (
    NearNames,
    Reading,
    Taxon,
    TaxonomyError,
    alternatives,
    common_key,
    latin_key,
    name_key,
    readings,
)

__all__ = ["How", "Match", "Taxon", "Taxonomy", "TaxonomyError"]

How = Literal[
    "accepted", "synonym", "common name", "subspecies", "misspelling", "ambiguous", "unknown"
]  # fmt: skip


@dataclass(frozen=True)
class Match:
    """What a taxonomy makes of a name."""

    name: str
    """As asked."""
    taxon: Taxon | None
    """None when the name is misspelt, ambiguous or unknown: nothing is corrected silently."""
    how: How
    suggestions: tuple[str, ...] = ()
    """Scientific names that may be meant, when the name is misspelt or ambiguous."""


class _Entry(NamedTuple):
    how: How
    keys: tuple[str, ...]
    """Of the accepted taxa that the name stands for."""


class Taxonomy:
    """Accepted taxa and all the names that lead to them.

    Names are compared without case, accents, authors, years, brackets and the signs that part words.
    An entry's scientific name goes before a common one: `bison` is the genus where that has an entry.
    Ranks above species need none: last of all, they are known from the classification of the species.
    """

    def __init__(self, layers: Iterable[Iterable[Taxon]]) -> None:
        """Taxa in layers: a name that an earlier layer knows keeps the meaning that it has there."""
        self._layers = tuple(tuple(layer) for layer in layers)
        self._taxa: dict[str, Taxon] = {}
        self._higher: dict[str, Taxon] = {}
        self._latin: dict[str, _Entry] = {}
        self._common: dict[str, _Entry] = {}
        for layer in self._layers:
            for taxon in layer:
                self._accept(taxon)
        for taxon in [taxon for taxon in self._taxa.values() if taxon.rank == "subspecies"]:
            self._fold(taxon)
        for layer in self._layers:
            self._index(layer)

    @classmethod
    def from_taxa(cls, taxa: Iterable[Taxon]) -> "Taxonomy":
        """A taxonomy of these taxa. Two of one scientific name become one: the first, with all names.

        A subspecies whose species is among them is folded into it. Raises TaxonomyError for a taxon
        without a scientific name.
        """
        return cls([taxa])

    @classmethod
    def built_in(cls) -> "Taxonomy":
        """The small table that comes with the package: animals that are often recorded."""
        with as_file(files("naturelm.corpus") / "data" / "taxonomy.csv") as path:
            return cls.from_csv(path)

    @classmethod
    def from_gbif(
        cls,
        path: Path,
        *,
        wanted: Collection[str] | None = None,
        kingdom: str = "Animalia",
        languages: Collection[str] = ("en",),
    ) -> "Taxonomy":
        """The GBIF backbone: its unpacked folder, `backbone.zip`, `Taxon.tsv` or `simple.txt(.gz)`.

        wanted: names to be resolved later; only the taxa that they lead to are kept, with all their
        names, so memory stays small. Misspelt names then get few suggestions. languages: ISO 639-1
        codes of the common names to keep. Raises TaxonomyError for a missing or damaged file.
        """
        return cls.from_taxa(taxonomy_files.read_gbif(Path(path), wanted, kingdom, languages))

    @classmethod
    def from_clements(cls, path: Path) -> "Taxonomy":
        """The eBird/Clements checklist of birds, a CSV of any year. Species codes are not names.

        Rows of species and their subspecies are read; spuhs, slashes, hybrids and domestic forms are
        not taxa. Raises TaxonomyError for a missing or damaged file.
        """
        return cls.from_taxa(taxonomy_files.read_clements(Path(path)))

    @classmethod
    def from_csv(cls, path: Path) -> "Taxonomy":
        """A table in the format of `to_csv`. Raises TaxonomyError for a missing or damaged file."""
        return cls.from_taxa(taxonomy_files.read_table(Path(path)))

    @classmethod
    def open(cls, path: Path, *, wanted: Collection[str] | None = None) -> "Taxonomy":
        """Whichever of the formats above a path is in. `wanted`: see `from_gbif`."""
        path = Path(path)
        kind = taxonomy_files.kind_of(path)
        if kind == "gbif":
            return cls.from_gbif(path, wanted=wanted)
        return cls.from_clements(path) if kind == "clements" else cls.from_csv(path)

    def to_csv(self, path: Path) -> None:
        """Write a table that `from_csv` reads; lists in a cell are parted by ` | `."""
        taxonomy_files.write_table(Path(path), self)

    def merged_with(self, other: "Taxonomy") -> "Taxonomy":
        """Both, where own entries win: a name known here keeps its meaning, a taxon its classification.

        A taxon of the other that is known here, under its accepted name or as a synonym, adds only
        further names.
        """
        layers = (tuple(self._adopted(taxon) for taxon in layer) for layer in other._layers)
        return Taxonomy([*self._layers, *layers])

    def resolve(self, name: str) -> Match:
        """The accepted taxon that a name stands for, or why there is none."""
        for parts in alternatives(name):
            match = self._resolve_parts(name, parts)
            if match is not None:
                return match
        return self._known(name) or self._suggest(name)

    def __len__(self) -> int:
        return len(self._taxa)

    def __iter__(self) -> Iterator[Taxon]:
        return iter(self._taxa.values())

    def __contains__(self, name: object) -> bool:
        """Whether a name leads to one accepted taxon."""
        return isinstance(name, str) and self.resolve(name).taxon is not None

    def _accept(self, taxon: Taxon) -> None:
        key = latin_key(taxon.scientific_name)
        if not key:
            raise TaxonomyError(f"{taxon.scientific_name!r}: a taxon needs a scientific name")
        known = self._taxa.get(key)
        self._taxa[key] = taxon if known is None else _with_names(known, taxon)

    def _fold(self, taxon: Taxon) -> None:
        key = latin_key(taxon.scientific_name)
        home = self._home(taxon)
        if home != key:
            self._taxa[home] = _with_names(self._taxa[home], self._taxa.pop(key))

    def _home(self, taxon: Taxon) -> str:
        """Key of the accepted taxon that a layer's taxon is part of: its species, if it has one here."""
        key = latin_key(taxon.scientific_name)
        if taxon.rank == "subspecies":
            species = " ".join(key.split()[:2])
            return species if species in self._taxa else key
        return key

    def _index(self, layer: Iterable[Taxon]) -> None:
        """Add names that no earlier layer knows; within a layer, entries' scientific names go first."""
        earlier_latin, earlier_common = set(self._latin), set(self._common)
        synonyms: dict[str, tuple[str, ...]] = {}
        common: dict[str, tuple[str, ...]] = {}
        classifications: dict[tuple[str, ...], Taxon] = {}
        for taxon in layer:
            home = self._home(taxon)
            if home not in earlier_latin and home.replace(" ", "") not in earlier_common:
                self._latin[home] = _Entry("accepted", (home,))
            for name in taxon.synonyms:
                _note(synonyms, latin_key(name), home)
            for name in (taxon.common_name, *taxon.other_names):
                _note(common, common_key(name), home)
            ranks = (taxon.phylum, taxon.class_name, taxon.order, taxon.family, _genus(taxon))
            classifications.setdefault(ranks, taxon)
        for key, homes in synonyms.items():
            if key.replace(" ", "") not in earlier_common:
                self._latin.setdefault(key, _Entry("synonym", homes))
        for key, homes in common.items():
            if key not in earlier_latin:
                self._common.setdefault(key, _Entry("common name", homes))
        for taxon in classifications.values():
            self._index_ranks_above(taxon)

    def _index_ranks_above(self, taxon: Taxon) -> None:
        above = Taxon("")
        for rank in ("phylum", "class_name", "order", "family", "genus"):
            name = _genus(taxon) if rank == "genus" else str(getattr(taxon, rank))
            ranks: dict[str, Any] = {rank: name}
            above = replace(above, scientific_name=name, rank=rank.removesuffix("_name"), **ranks)
            key = latin_key(name)
            if key and key not in self._latin and key not in self._common:
                self._latin[key] = _Entry("accepted", (key,))
                if key not in self._taxa:
                    self._higher[key] = above

    def _read(self, name: str, reading: Reading) -> Match | None:
        entry = self._latin.get(reading.key)
        if entry is None and not reading.latin:
            entry = self._common.get(reading.key.replace(" ", ""))
        if entry is None:
            return None
        # "Parus major, Turdus merula": what follows is not an author but another animal.
        pairs = (f"{one} {two}" for one, two in zip(reading.rest, reading.rest[1:], strict=False))
        keys = [
            *entry.keys,
            *(key for pair in pairs if pair in self._latin for key in self._latin[pair].keys),
        ]
        keys = list(dict.fromkeys(keys))
        if len(keys) > 1:
            return Match(name, None, "ambiguous", tuple(self._at(key).scientific_name for key in keys))
        trinomial = reading.key.startswith(f"{keys[0]} ") and entry.how == "synonym"
        return Match(name, self._at(keys[0]), "subspecies" if reading.subspecies or trinomial else entry.how)

    def _known(self, name: str) -> Match | None:
        matches = (self._read(name, reading) for reading in readings(name))
        return next((match for match in matches if match is not None), None)

    def _resolve_parts(self, name: str, parts: tuple[str, ...]) -> Match | None:
        """A hybrid or an undecided pair stands for several taxa, unless they are parts of one."""
        matches = [match for match in map(self._known, parts) if match is not None]
        taxa = [match.taxon for match in matches if match.taxon is not None]
        if len(taxa) < len(parts):
            return None
        names = tuple(dict.fromkeys(taxon.scientific_name for taxon in taxa))
        if len(names) == 1:
            return replace(matches[0], name=name)
        return Match(name, None, "ambiguous", names)

    def _suggest(self, name: str) -> Match:
        ways = readings(name)
        for key in dict.fromkeys(reading.key for reading in ways if not reading.latin or " " in reading.key):
            near = self._near.near(key)
            entries = [self._latin.get(other) or self._common[other.replace(" ", "")] for other in near]
            keys = dict.fromkeys(home for entry in entries for home in entry.keys)
            if keys:
                return Match(name, None, "misspelling", tuple(self._at(key).scientific_name for key in keys))
        return Match(name, None, "unknown")

    def _at(self, key: str) -> Taxon:
        return self._taxa[key] if key in self._taxa else self._higher[key]

    def _adopted(self, taxon: Taxon) -> Taxon:
        """Another taxonomy's taxon under the name and classification that it has in this one."""
        entry = self._latin.get(latin_key(taxon.scientific_name))
        if entry is None or len(entry.keys) != 1 or entry.keys[0] not in self._taxa:
            return taxon
        return replace(
            self._taxa[entry.keys[0]],
            common_name=taxon.common_name,
            synonyms=taxon.synonyms,
            other_names=taxon.other_names,
        )

    @cached_property
    def _near(self) -> NearNames:
        taxa = self._taxa.values()
        common = (name_key(name) for taxon in taxa for name in (taxon.common_name, *taxon.other_names))
        return NearNames([*self._latin, *(key for key in common if key.replace(" ", "") in self._common)])


def _genus(taxon: Taxon) -> str:
    if taxon.genus or taxon.rank not in ("species", "subspecies"):
        return taxon.genus
    return taxon.scientific_name.split()[0]


def _note(names: dict[str, tuple[str, ...]], key: str, home: str) -> None:
    homes = names.get(key, ())
    if key and home not in homes:
        names[key] = (*homes, home)


def _with_names(taxon: Taxon, donor: Taxon) -> Taxon:
    """A taxon with the names of another entry of it, each once."""
    names = [taxon.common_name, donor.common_name, *taxon.other_names, *donor.other_names]
    names = list({common_key(name): name for name in reversed(names) if name}.values())[::-1]
    common_name = taxon.common_name or donor.common_name
    return replace(
        taxon,
        common_name=common_name,
        synonyms=tuple(dict.fromkeys((*taxon.synonyms, *donor.synonyms))),
        other_names=tuple(name for name in names if common_key(name) != common_key(common_name)),
    )
