"""Labels of a data set, found among the names that a classifier was made with.

Names change: a data set says `Sand Martin` where the classifier has `Bank Swallow`, and both mean Riparia riparia.
A label is looked up as it is written, then by all names that a taxonomy has for the taxon. Nothing is guessed:
what is misspelt, ambiguous or unknown stays without a match, and is counted.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path

from naturelm.corpus.taxonomy import Taxon, Taxonomy
from naturelm.corpus.taxonomy_names import common_key, latin_key

_RANKS = ("genus", "family", "order", "class", "phylum")
_BRACKETED = re.compile(r"^(.*?)\s*[(\[](.*)[)\]]\s*$")
_TAXONOMIC = re.compile(r"(?:[A-Z][a-z]+ ){2,}([A-Z][a-z]+ [a-z-]+)$")
_SAID_OF_IT = re.compile(r"\s+(?:calls?|songs?)$", re.IGNORECASE)
_SPELLINGS = (("grey", "gray"), ("coloured", "colored"))


@dataclass(frozen=True)
class SystemLabel:
    """What a classifier can say, by its scientific and its common name; one of them, or both, or the same twice."""

    scientific: str = ""
    common: str = ""


@dataclass(frozen=True)
class Mapped:
    """The labels of one data set, as far as a classifier knows them."""

    places: dict[str, tuple[int, ...]]
    """Of each label, the numbers of the classifier's labels that stand for it; several for a group of species."""
    unknown: tuple[str, ...]
    """Labels that the classifier has no name for."""

    @property
    def known(self) -> int:
        """Labels that it knows."""
        return len(self.places)


class LabelNames:
    """A classifier's labels, to be found by any name.

    taxonomy: whose synonyms and common names are used; None for the tables that come with the package.
    """

    def __init__(self, labels: Sequence[SystemLabel], taxonomy: Taxonomy | None = None) -> None:
        self._labels = tuple(labels)
        self._given = taxonomy
        self._latin: dict[str, list[int]] = defaultdict(list)
        self._common: dict[str, list[int]] = defaultdict(list)
        self._genera: dict[str, list[int]] = defaultdict(list)
        for number, label in enumerate(self._labels):
            latin = latin_key(label.scientific)
            self._latin[latin].append(number)
            self._common[_key(label.common)].append(number)
            if " " in latin:
                self._genera[latin.split()[0]].append(number)
        for index in (self._latin, self._common):
            index.pop("", None)
        self._found: dict[str, tuple[int, ...]] = {}

    def map(self, labels: Iterable[str]) -> Mapped:
        """Labels of a data set to the classifier's."""
        found = {label: self.find(label) for label in labels}
        known = {label: places for label, places in found.items() if places}
        return Mapped(known, tuple(label for label in found if label not in known))

    def find(self, label: str) -> tuple[int, ...]:
        """Numbers of the classifier's labels that a name stands for, in order; empty where there is none."""
        if label not in self._found:
            texts = list(_texts(label))
            # The taxonomy is slow with names that it does not know: it is asked last, if at all.
            matches = chain(map(self._by_name, texts), map(self._by_taxonomy, texts))
            self._found[label] = next((tuple(sorted(of)) for of in matches if of), ())
        return self._found[label]

    def _by_name(self, text: str) -> set[int]:
        return {*self._latin.get(latin_key(text), ()), *self._common.get(_key(text), ())}

    def _by_taxonomy(self, text: str) -> set[int]:
        taxon = self._taxonomy.resolve(text).taxon
        return set() if taxon is None else self._of_taxon(taxon)

    def _of_taxon(self, taxon: Taxon) -> set[int]:
        if taxon.rank not in _RANKS:
            return self._of_species(taxon)
        places = self._of_species(taxon)
        for member in self._members.get((taxon.rank, taxon.scientific_name), ()):
            places |= self._of_species(member)
        if taxon.rank == "genus":
            places.update(self._genera.get(latin_key(taxon.scientific_name), ()))
        return places

    def _of_species(self, taxon: Taxon) -> set[int]:
        places: set[int] = set()
        for name in (taxon.scientific_name, *taxon.synonyms):
            places.update(self._latin.get(latin_key(name), ()))
        # A common name is less certain than a scientific one: it is not asked where that is known.
        for name in () if places else (taxon.common_name, *taxon.other_names):
            places.update(self._common.get(_key(name), ()))
        return places

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        return self._given if self._given is not None else built_in_names()

    @cached_property
    def _members(self) -> dict[tuple[str, str], list[Taxon]]:
        """Species by rank and name of the groups that they are of."""
        members: dict[tuple[str, str], list[Taxon]] = defaultdict(list)
        for taxon in self._taxonomy:
            if taxon.rank in _RANKS:
                continue
            genus = taxon.genus or taxon.scientific_name.split()[0]
            groups = (genus, taxon.family, taxon.order, taxon.class_name, taxon.phylum)
            for rank, name in zip(_RANKS, groups, strict=True):
                members[rank, name].append(taxon)
        return members


def built_in_names() -> Taxonomy:
    """The package's taxonomy, and the names in which the labels of BEANS-Zero differ from those of checklists."""
    with as_file(files("naturelm.bench.models") / "label_names.csv") as path:
        return Taxonomy.built_in().merged_with(Taxonomy.from_csv(path))


def names_from(path: Path | str | None) -> Taxonomy:
    """The built-in names, and those of a taxonomy file if there is one. Raises TaxonomyError for a false file."""
    built_in = built_in_names()
    return built_in if path is None else Taxonomy.open(Path(path)).merged_with(built_in)


def _key(name: str) -> str:
    key = common_key(name)
    for ours, theirs in _SPELLINGS:
        key = key.replace(ours, theirs)
    return key


def _texts(label: str) -> Iterator[str]:
    """Ways to read a label, the most literal first."""
    text = " ".join(label.replace("_", " ").split())
    yield text
    bracketed = _BRACKETED.match(text)
    if bracketed:
        yield from bracketed.groups()
    taxonomic = _TAXONOMIC.search(text)
    if taxonomic:
        yield taxonomic.group(1)
    if "," in text:
        yield from (part.strip() for part in text.split(","))
    shorter = _SAID_OF_IT.sub("", text)
    if shorter != text:
        yield shorter
