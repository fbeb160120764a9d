"""Naming the focal animal: species by three kinds of name, genus, family; openly or from a list."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from naturelm.corpus import prompts
from naturelm.corpus.cast import is_invented
from naturelm.corpus.library import Entry
from naturelm.corpus.prompts import Wording
from naturelm.corpus.tasks.base import (
    Draft,
    Studio,
    SubjectsTakeTurns,
    UnusablePair,
    keeps_name,
    label_changes,
    one_focal_animal,
    shuffled,
)
from naturelm.corpus.taxonomy import Taxon


@dataclass(frozen=True)
class Naming(SubjectsTakeTurns):
    """What is the ... of the focal species?"""

    name: str
    wording: Wording
    name_of: Callable[[Taxon], str]
    """The answer for a taxon; empty where it has none."""
    options_share: float = 0.4
    """Share of the questions that come with a list of options."""
    most_options: int = 8

    def fits(self, entry: Entry) -> bool:
        """See `Task`."""
        return one_focal_animal(entry) and keeps_name(entry) and bool(self.name_of(entry.taxa[0]))

    def make(self, entry: Entry, studio: Studio, rng: np.random.Generator) -> Draft:
        """See `Task`."""
        answer, invented = self.name_of(entry.taxa[0]), is_invented(entry)
        scene = studio.scene([entry], rng, allowed=label_changes(entry))
        if studio.first_wording or rng.random() >= self.options_share:
            return Draft(scene, studio.ask(self.wording, rng, invented=invented), answer, (answer,))
        count = int(rng.integers(1, self.most_options))
        wrong = studio.cast.wrong_taxa(entry.all_taxa, count, rng, invented=invented, name=self.name_of)
        if not wrong:
            raise UnusablePair(f"{entry.key}: there is no other name to offer beside {answer!r}")
        options = shuffled([answer, *wrong], rng)
        question = studio.ask_with_options(self.wording, options, rng, invented=invented)
        return Draft(scene, question, answer, (answer,), options)


def common_name(taxon: Taxon) -> str:
    """Common name, empty where none is known."""
    return taxon.common_name


def _species_name(taxon: Taxon) -> str:
    return taxon.scientific_name if taxon.rank == "species" else ""


def _taxonomic_name(taxon: Taxon) -> str:
    known = taxon.rank == "species" and taxon.family and taxon.order
    return taxon.taxonomic_name if known else ""


def _genus(taxon: Taxon) -> str:
    return taxon.genus


def _family(taxon: Taxon) -> str:
    return taxon.family


SPECIES_COMMON = Naming("species-common", prompts.COMMON_NAME, common_name)
SPECIES_SCIENTIFIC = Naming("species-scientific", prompts.SCIENTIFIC_NAME, _species_name)
SPECIES_TAXONOMIC = Naming("species-taxonomic", prompts.TAXONOMIC_NAME, _taxonomic_name, most_options=4)
GENUS = Naming("genus", prompts.GENUS, _genus)
FAMILY = Naming("family", prompts.FAMILY, _family)
