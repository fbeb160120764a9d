"""Who trains and who is held out: taxa, recordists, original recordings and copies stay in one split.

Recordings that may not be parted are joined: those of one group, of one file, of one recordist (if
asked for) and near-duplicates. Each joined set goes to one split as a whole: to test if anything in it
is held out or the archive says so, else by chance, drawn from the names of the groups in it, so that
adding recordings to a corpus moves as few of the others as can be.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from naturelm.corpus.library import Novelty
from naturelm.corpus.options import CorpusError, SplitOptions
from naturelm.corpus.taxonomy import Taxon, Taxonomy

_ARCHIVE_SPLITS = {
    "train": "train",
    "development": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "evaluation": "test",
    "eval": "test",
}
_STRICTER = ("train", "validation", "test")


@dataclass(frozen=True)
class HeldOut:
    """Taxa that training never hears."""

    species: frozenset[str]
    """Scientific names."""
    genera: frozenset[str]
    families: frozenset[str]

    def holds(self, taxon: Taxon) -> bool:
        """Whether a taxon is held out, itself or with its genus or family."""
        return (
            taxon.scientific_name in self.species
            or taxon.genus in self.genera
            or taxon.family in self.families
        )


@dataclass(frozen=True)
class Member:
    """What the split of one recording depends on."""

    key: str
    """`source:id`"""
    taxa: tuple[Taxon, ...]
    """All that can be heard."""
    group: str
    """`source:group`"""
    file: str
    """`source:file name`"""
    recordist: str
    """`source:recordist`, or empty."""
    archive_split: str
    names_held_out: bool = False
    """Whether its caption or transcript names a held-out taxon, heard or not."""


def choose_held_out(
    options: SplitOptions, taxonomy: Taxonomy, taxa: Mapping[str, Collection[Taxon]], seed: int
) -> HeldOut:
    """Held-out taxa, named and drawn. CorpusError for a name that the taxonomy does not know.

    taxa: those of each source.
    """
    species = set()
    for name in options.species:
        match = taxonomy.resolve(name)
        if match.taxon is None:
            hint = f"; did you mean {', '.join(match.suggestions)}?" if match.suggestions else ""
            raise CorpusError(f"splits.species: {name!r} is {match.how} to the taxonomy{hint}")
        if match.taxon.rank not in {"species", "subspecies"}:
            raise CorpusError(
                f"splits.species: {name!r} is a {match.taxon.rank}; name it under genera or families, or its species"
            )
        species.add(match.taxon.scientific_name)
    everyone = {
        taxon
        for source, of_source in taxa.items()
        if not options.chance_sources or source in options.chance_sources
        for taxon in of_source
        if taxon.rank == "species"
    }
    families = set(options.families) | _drawn(
        {t.family for t in everyone}, options.families_share, seed, "family"
    )
    left = {t for t in everyone if t.family not in families}
    genera = set(options.genera) | _drawn({t.genus for t in left}, options.genera_share, seed, "genus")
    left = {t for t in left if t.genus not in genera}
    species |= _drawn({t.scientific_name for t in left}, options.species_share, seed, "species")
    known = {rank: {getattr(t, rank) for of in taxa.values() for t in of} for rank in ("genus", "family")}
    for rank, named in (("genus", options.genera), ("family", options.families)):
        for name in named:
            if name not in known[rank]:
                near = get_close_matches(name, sorted(known[rank]))
                hint = f" (did you mean {', '.join(near)}?)" if near else ""
                raise CorpusError(
                    f"splits: no recording is of the {rank} {name!r}{hint}; correct its name or leave it out"
                )
    return HeldOut(frozenset(species), frozenset(genera), frozenset(families))


def _drawn(names: Iterable[str], share: float, seed: int, rank: str) -> set[str]:
    """The share of names whose chance, which depends on nothing else than the name, comes first."""
    known = sorted(set(names) - {""}, key=lambda name: _chance(f"{seed} {rank} {name}"))
    return set(known[: round(share * len(known))])


def _chance(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def assign_splits(
    members: Sequence[Member],
    copies: Iterable[tuple[str, str]],
    held_out: HeldOut,
    options: SplitOptions,
    seed: int,
) -> list[str]:
    """Split of each member. copies: pairs of keys that hold the same sound."""
    joined = _Joined(len(members))
    for kind in ("group", "file", *(("recordist",) if options.recordists_apart else ())):
        first: dict[str, int] = {}
        for row, member in enumerate(members):
            value = getattr(member, kind)
            # A recordist of held-out taxa may have recorded others too: these need not be held out.
            if value and not (kind == "recordist" and any(held_out.holds(taxon) for taxon in member.taxa)):
                joined.join(first.setdefault(value, row), row)
    rows = {member.key: row for row, member in enumerate(members)}
    for one, other in copies:
        joined.join(rows[one], rows[other])
    together: dict[int, list[int]] = {}
    for row in range(len(members)):
        together.setdefault(joined.head(row), []).append(row)
    splits = [""] * len(members)
    for set_of_rows in together.values():
        split = _split_of([members[row] for row in set_of_rows], held_out, options, seed)
        for row in set_of_rows:
            splits[row] = split
    return splits


def _split_of(members: Sequence[Member], held_out: HeldOut, options: SplitOptions, seed: int) -> str:
    if any(member.names_held_out or any(map(held_out.holds, member.taxa)) for member in members):
        return "test"
    stated = {_ARCHIVE_SPLITS.get(member.archive_split, "") for member in members} - {""}
    if options.archive_splits and stated:
        return max(stated, key=_STRICTER.index)
    # One group speaks for all, itself drawn: one more among many seldom takes its place.
    speaker = min({member.group for member in members}, key=lambda group: _chance(f"{seed} speaker {group}"))
    chance = _chance(f"{seed} split {speaker}")
    if chance < options.test_share:
        return "test"
    return "validation" if chance < options.test_share + options.validation_share else "train"


def novelties(taxa: Sequence[tuple[Taxon, ...]], splits: Sequence[str]) -> list[Novelty]:
    """How far each recording is from the taxa of the training split, by what is truly in it."""
    trained = [taxon for of, split in zip(taxa, splits, strict=True) if split == "train" for taxon in of]
    species = {taxon.scientific_name for taxon in trained}
    genera, families = {taxon.genus for taxon in trained}, {taxon.family for taxon in trained}

    def novelty(taxon: Taxon) -> Novelty:
        if taxon.scientific_name in species:
            return "seen"
        if taxon.family and taxon.family not in families:
            return "unseen-family"
        return "unseen-genus" if taxon.genus and taxon.genus not in genera else "unseen-species"

    order: tuple[Novelty, ...] = ("seen", "unseen-species", "unseen-genus", "unseen-family")
    return [max((novelty(taxon) for taxon in of), key=order.index, default="seen") for of in taxa]


class _Joined:
    """Sets of rows that grow together (union-find)."""

    def __init__(self, rows: int) -> None:
        self._above = list(range(rows))

    def head(self, row: int) -> int:
        while self._above[row] != row:
            self._above[row] = self._above[self._above[row]]
            row = self._above[row]
        return row

    def join(self, one: int, other: int) -> None:
        self._above[max(self.head(one), self.head(other))] = min(self.head(one), self.head(other))
