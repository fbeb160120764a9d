"""Who can take part: recordings of one split by taxon, label and kind, and names for option lists."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np

from naturelm.corpus.library import Entry, Library
from naturelm.corpus.taxonomy import Taxon

FAUNA = "fauna"
"""Name of the source whose animals are invented."""


def is_invented(entry: Entry) -> bool:
    """Whether a recording is of the synthetic fauna."""
    return entry.recording.source == FAUNA


@dataclass(frozen=True)
class Namesake:
    """A taxon that can stand in a list of options, and where it was recorded."""

    taxon: Taxon
    regions: frozenset[str]
    invented: bool


class Cast:
    """Recordings of one split, as tasks draw companions, noise and names from them.

    Test rows may draw names from the training split as well, training rows never from the test split:
    no text of the training split may hold the name of a held-out taxon.
    """

    def __init__(self, library: Library, split: str) -> None:
        self.library = library
        self.split = split
        self.noises: list[int] = []
        self._by_taxon: defaultdict[str, list[int]] = defaultdict(list)
        self._by_individual: defaultdict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._animals: defaultdict[bool, list[int]] = defaultdict(list)
        self.speech: list[int] = []
        self.sound_labels: list[str] = []
        self.instruments: list[str] = []
        self._names: dict[str, Namesake] = {}
        for row, entry in enumerate(library):
            if entry.split == split:
                self._add(row, entry)
            if entry.split in {split, "train"}:
                self._add_names(entry)
        self.sound_labels = sorted(set(self.sound_labels))
        self.instruments = sorted(set(self.instruments))
        self._kin: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for name, namesake in self._names.items():
            for relation in _relations(namesake):
                self._kin[relation].append(name)

    def _add(self, row: int, entry: Entry) -> None:
        kind = entry.recording.kind
        if kind == "noise":
            self.noises.append(row)
        elif kind == "speech":
            self.speech.append(row)
        elif kind == "animal" and len(entry.all_taxa) == 1:
            name = entry.taxa[0].scientific_name
            self._by_taxon[name].append(row)
            self._animals[is_invented(entry)].append(row)
            if entry.recording.recordist or entry.recording.group:
                individual = entry.recording.group or entry.recording.recordist
                self._by_individual[name][individual].append(row)

    def _add_names(self, entry: Entry) -> None:
        self.sound_labels.extend(entry.recording.labels)
        if entry.recording.instrument:
            self.instruments.append(entry.recording.instrument)
        for taxon in entry.all_taxa:
            known = self._names.get(taxon.scientific_name)
            regions = {entry.recording.region} - {""}
            if known is None or not regions <= known.regions:
                regions |= known.regions if known else set()
                self._names[taxon.scientific_name] = Namesake(taxon, frozenset(regions), is_invented(entry))

    def noise(self, rng: np.random.Generator) -> Entry | None:
        """Background to lay under a clip, if the split has any."""
        return self.library[int(rng.choice(self.noises))] if self.noises else None

    def others(
        self,
        entry: Entry,
        count: int,
        rng: np.random.Generator,
        *,
        fit: Callable[[Entry], bool],
    ) -> list[Entry]:
        """Recordings of other taxa, each of another, for a clip with `entry`; fewer if there are not enough."""
        rows = self._animals[is_invented(entry)]
        found: list[Entry] = []
        heard = {taxon.scientific_name for taxon in entry.all_taxa}
        for row in rng.choice(rows, size=min(len(rows), 12 * count), replace=False):
            other = self.library[int(row)]
            names = {taxon.scientific_name for taxon in other.all_taxa}
            if names & heard or not fit(other):
                continue
            found.append(other)
            heard |= names
            if len(found) == count:
                break
        return found

    def fellows(
        self, entry: Entry, count: int, rng: np.random.Generator, *, fit: Callable[[Entry], bool]
    ) -> list[Entry]:
        """Recordings of other individuals of the same taxon, each of another; fewer if there are not enough."""
        own = entry.recording.group or entry.recording.recordist
        individuals = self._by_individual[entry.taxa[0].scientific_name]
        found: list[Entry] = []
        for individual in rng.permutation(sorted(individuals)):
            if len(found) == count:
                break
            takes = [self.library[row] for row in individuals[str(individual)]]
            fitting = [take for take in takes if fit(take)]
            if individual != own and fitting:
                found.append(fitting[int(rng.integers(len(fitting)))])
        return found

    def speakers(self, entry: Entry, count: int, rng: np.random.Generator) -> list[Entry]:
        """Recordings of other speakers, each of another; fewer if there are not enough."""
        found: list[Entry] = []
        heard = {entry.recording.recordist}
        for row in rng.permutation(self.speech)[: 20 * count]:
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
        namesakes = [self._names.get(taxon.scientific_name) for taxon in true]
        near: list[str] = []
        for relation in ("genus", "family", "region"):
            kin = [
                other
                for namesake in namesakes
                if namesake is not None
                for kinship in _relations(namesake)
                if kinship[0] == relation
                for other in self._kin[kinship]
            ]
            near.extend(str(other) for other in rng.permutation(kin)[: 4 * count])
        hard = list(dict.fromkeys(near))[: 4 * count]
        everyone = [key for key, namesake in self._names.items() if namesake.invented == invented]
        far = [str(key) for key in rng.choice(everyone, size=min(len(everyone), 8 * count), replace=False)]
        taken = {name(taxon) for taxon in true} | {""}
        chosen: list[str] = []

        def take(keys: Iterable[str], wanted: int) -> None:
            for key in keys:
                if len(chosen) >= wanted:
                    return
                text = name(self._names[key].taxon)
                if text not in taken:
                    taken.add(text)
                    chosen.append(text)

        take(hard, count - count // 2)
        take(far, count)
        take(hard, count)
        return chosen


def _relations(namesake: Namesake) -> list[tuple[str, str]]:
    taxon = namesake.taxon
    places = [("region", region) for region in sorted(namesake.regions)]
    ranks = [("genus", taxon.genus), ("family", taxon.family)]
    return [(rank, value) for rank, value in ranks + places if value]
