"""Who can take part: recordings of one split by taxon, label and kind, and names for option lists."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from naturelm.corpus.library import Entry, Library
from naturelm.corpus.taxonomy import Taxon

FAUNA = "fauna"
"""Name of the source whose animals are invented."""


def is_invented(entry: Entry) -> bool:
    """Whether a recording is of the synthetic fauna."""
    return entry.recording.source == FAUNA


_TAKES = 8
"""Recordings of an individual among which a fitting one is looked for."""


@dataclass(frozen=True)
class Namesake:
    """A taxon that can stand in a list of options, and where it was recorded."""

    taxon: Taxon
    regions: frozenset[str]
    invented: bool


@dataclass(frozen=True)
class _Rows:
    """Rows of the library by what they can be drawn for, as they are added up."""

    noises: list[int] = field(default_factory=list)
    speech: list[int] = field(default_factory=list)
    animals: defaultdict[bool, list[int]] = field(default_factory=lambda: defaultdict(list))
    by_individual: defaultdict[str, defaultdict[str, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, row: int, entry: Entry) -> None:
        recording = entry.recording
        # Noise with an animal in it would let the animal be heard and not told of.
        if recording.kind == "noise" and not entry.all_taxa:
            self.noises.append(row)
        elif recording.kind == "speech" and recording.recordist and recording.count in {None, 1}:
            self.speech.append(row)
        elif recording.kind == "animal" and len(entry.all_taxa) == 1:
            self.animals[is_invented(entry)].append(row)
            individual = recording.group or recording.recordist
            if individual:
                self.by_individual[entry.taxa[0].scientific_name][individual].append(row)


class Cast:
    """Recordings of one split, as tasks draw companions, noise and names from them.

    Test rows may draw names from the training split as well, training rows never from the test split:
    no text of the training split may hold the name of a held-out taxon.
    """

    def __init__(self, library: Library, split: str) -> None:
        self.library = library
        rows = _Rows()
        labels: set[str] = set()
        instruments: set[str] = set()
        self._names: dict[str, Namesake] = {}
        for row, entry in enumerate(library):
            if entry.split == split:
                rows.add(row, entry)
            if entry.split in {split, "train"}:
                self._add_names(entry)
                labels.update(entry.recording.labels)
                instruments.update({entry.recording.instrument} - {""})
        self.sound_labels, self.instruments = sorted(labels), sorted(instruments)
        # Arrays: two million recordings take 8 bytes each, and drawing from them copies nothing.
        self._noises = np.array(rows.noises, dtype=np.int64)
        self._speech = np.array(rows.speech, dtype=np.int64)
        self._animals = {invented: np.array(of, dtype=np.int64) for invented, of in rows.animals.items()}
        self._by_individual = {
            name: {individual: np.array(of, dtype=np.int64) for individual, of in individuals.items()}
            for name, individuals in rows.by_individual.items()
        }
        self._kin: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._everyone: dict[bool, list[str]] = {True: [], False: []}
        for name, namesake in self._names.items():
            self._everyone[namesake.invented].append(name)
            for relation in _relations(namesake):
                self._kin[relation].append(name)

    def _add_names(self, entry: Entry) -> None:
        for taxon in entry.all_taxa:
            known = self._names.get(taxon.scientific_name)
            regions = {entry.recording.region} - {""}
            if known is None or not regions <= known.regions:
                regions |= known.regions if known else set()
                self._names[taxon.scientific_name] = Namesake(taxon, frozenset(regions), is_invented(entry))

    def noise(self, rng: np.random.Generator) -> Entry | None:
        """Background to lay under a clip, if the split has any."""
        return self.library[int(rng.choice(self._noises))] if len(self._noises) else None

    def others(
        self,
        entry: Entry,
        count: int,
        rng: np.random.Generator,
        *,
        fit: Callable[[Entry], bool],
    ) -> list[Entry]:
        """Recordings of other taxa, each of another, for a clip with `entry`; fewer if there are not enough."""
        rows = self._animals.get(is_invented(entry), self._noises[:0])
        found: list[Entry] = []
        heard = list(entry.all_taxa)
        for row in rng.choice(rows, size=min(len(rows), 12 * count), replace=False):
            other = self.library[int(row)]
            if any(_may_be(taxon, known) for taxon in other.all_taxa for known in heard) or not fit(other):
                continue
            found.append(other)
            heard.extend(other.all_taxa)
            if len(found) == count:
                break
        return found

    def fellows(
        self, entry: Entry, count: int, rng: np.random.Generator, *, fit: Callable[[Entry], bool]
    ) -> list[Entry]:
        """Recordings of other individuals of the same taxon, each of another; fewer if there are not enough."""
        own = entry.recording.group or entry.recording.recordist
        individuals = self._by_individual.get(entry.taxa[0].scientific_name, {})
        found: list[Entry] = []
        for individual in rng.permutation(sorted(individuals)):
            if len(found) == count:
                break
            rows = individuals[str(individual)]
            takes = [self.library[int(row)] for row in rng.permutation(rows)[:_TAKES]]
            fitting = [take for take in takes if fit(take)]
            if individual != own and fitting:
                found.append(fitting[int(rng.integers(len(fitting)))])
        return found

    def speakers(self, entry: Entry, count: int, rng: np.random.Generator) -> list[Entry]:
        """Recordings of other speakers, each of another; fewer if there are not enough."""
        found: list[Entry] = []
        heard = {entry.recording.recordist}
        for row in rng.choice(self._speech, size=min(len(self._speech), 20 * count), replace=False):
            other = self.library[int(row)]
            if other.recording.recordist not in heard:
                found.append(other)
                heard.add(other.recording.recordist)
            if len(found) == count:
                break
        return found

    def wrong_taxa(
        self,
        true: Collection[Taxon],
        count: int,
        rng: np.random.Generator,
        *,
        invented: bool,
        name: Callable[[Taxon], str],
    ) -> list[str]:
        """Names of taxa that are not there, for a list of options, each name once.

        About half are hard: of the same genus, of the same family, or from the same region as a true one.
        """
        namesakes = [self._names[t.scientific_name] for t in true if t.scientific_name in self._names]
        kinships = dict.fromkeys(kinship for namesake in namesakes for kinship in _relations(namesake))
        taken = {name(taxon) for taxon in true} | {""}
        chosen: list[str] = []

        def take(keys: Sequence[str], wanted: int) -> None:
            for place in rng.permutation(len(keys)):
                if len(chosen) >= wanted:
                    return
                other = self._names[keys[place]]
                text = name(other.taxon)
                if other.invented != invented or text in taken:
                    continue
                if not any(_may_be(other.taxon, taxon) for taxon in true):
                    taken.add(text)
                    chosen.append(text)

        def take_hard(wanted: int) -> None:
            for relation in ("genus", "family", "region"):
                kin = (self._kin.get(kinship, ()) for kinship in kinships if kinship[0] == relation)
                take([key for keys in kin for key in keys], wanted)

        take_hard(count - count // 2)
        take(self._everyone[invented], count)
        take_hard(count)
        return chosen


def _may_be(one: Taxon, other: Taxon) -> bool:
    """Whether one animal may bear both names: they are the same, or one is a group that has the other in it."""
    if one.scientific_name == other.scientific_name:
        return True
    return _has(one, other) or _has(other, one)


def _has(group: Taxon, member: Taxon) -> bool:
    field = "class_name" if group.rank == "class" else group.rank
    if field not in {"genus", "family", "order", "class_name", "phylum"}:
        return False
    value = getattr(group, field)
    return bool(value) and value == getattr(member, field)


def _relations(namesake: Namesake) -> list[tuple[str, str]]:
    taxon = namesake.taxon
    places = [("region", region) for region in sorted(namesake.regions)]
    ranks = [("genus", taxon.genus), ("family", taxon.family)]
    return [(rank, value) for rank, value in ranks + places if value]
