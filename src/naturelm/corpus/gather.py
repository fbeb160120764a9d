"""Second stage of a build: names resolved, copies found, splits decided; the library and its tables written."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from naturelm.corpus.cast import FAUNA
from naturelm.corpus.fauna import SPECIES
from naturelm.corpus.fingerprint import Duplicate, DuplicateFinder, Overlap
from naturelm.corpus.held_out import HeldOutNames
from naturelm.corpus.library import Entry, Novelty, write_library
from naturelm.corpus.options import BuildOptions
from naturelm.corpus.prepare import Prepared, read_prepared
from naturelm.corpus.recordings import Failure, Recording
from naturelm.corpus.splits import HeldOut, Member, assign_splits, choose_held_out, novelties
from naturelm.corpus.taxonomy import Match, Taxon, Taxonomy
from naturelm.corpus.taxonomy_names import latin_key

UNIDENTIFIED = "unidentified"
"""What sources call an animal that was heard and not named: it is no silence, and no answer either."""
FAILURES, UNKNOWN_TAXA, DUPLICATES = "failures.csv", "unknown_taxa.csv", "duplicates.csv"


@dataclass(frozen=True)
class Gathered:
    """What came of all recordings."""

    held_out: HeldOut
    failures: tuple[Failure, ...]
    unknown: int
    """Names that the taxonomy does not know."""
    duplicates: int
    taxa: tuple[Taxon, ...]
    licenses: dict[str, dict[str, int]]
    """Recordings by source and licence."""
    generated: tuple[str, ...]
    """Sources whose sound is made, not recorded."""


@dataclass(frozen=True)
class _Found:
    """What the prepared chunks hold, as it is added up."""

    by_sound: bool
    """Whether copies are looked for by fingerprint."""
    failures: list[Failure] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    """What archives say in words of their own, by row of `members`."""
    by_source: defaultdict[str, set[Taxon]] = field(default_factory=lambda: defaultdict(set))
    licenses: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    generated: set[str] = field(default_factory=set)
    finder: DuplicateFinder = field(default_factory=DuplicateFinder)
    first_of: dict[bytes, str] = field(default_factory=dict)
    """Key of the first recording with each digest, of those that are not compared by fingerprint."""
    copies: list[Duplicate] = field(default_factory=list)
    """Of those."""

    def add(self, row: Prepared, taxa: tuple[Taxon, ...]) -> None:
        """A usable recording."""
        recording = row.recording
        member = _member(recording, taxa)
        words = (recording.caption, recording.transcript, recording.instruction, recording.answer)
        if any(words) or recording.labels:
            self.texts[len(self.members)] = "\n".join(filter(None, (*words, *recording.labels)))
        self.members.append(member)
        self.by_source[recording.source].update(member.taxa)
        self.licenses[recording.source][recording.license] += 1
        if row.fingerprint is None:
            self.generated.add(recording.source)
        elif not self.by_sound or not self.finder.add(member.key, row.fingerprint):
            first = self.first_of.setdefault(row.digest, member.key)
            if first != member.key:
                self.copies.append(Duplicate(first, member.key, Overlap(0.0, 0.0, row.duration, 0.0)))


def gather(chunks: Sequence[Path], options: BuildOptions, library: Path, folder: Path) -> Gathered:
    """Read the prepared chunks, and write the library and the tables of what could not be used as it was."""
    names = _Names(_taxonomy(chunks, options), strict=bool(options.taxonomy))
    found = _find(chunks, names, by_sound=options.copies == "sound")
    # Before anything can be refused: they may be the reason.
    write_failures(found.failures, folder)
    held_out = choose_held_out(options.splits, names.taxonomy, found.by_source, options.seed)
    members = _naming_held_out(found, held_out, names)
    copies = sorted([*found.finder.duplicates(), *found.copies], key=lambda copy: (copy.first, copy.second))
    pairs = [(copy.first, copy.second) for copy in copies]
    splits = assign_splits(members, pairs, held_out, options.splits, options.seed)
    taxa = [member.taxa for member in members]
    new = novelties(taxa, splits)
    # By first mention, not through a set: the order of a set differs between runs.
    by_name: dict[str, Taxon] = {}
    for taxon in (taxon for of in taxa for taxon in of):
        by_name.setdefault(taxon.scientific_name, taxon)
    used = [by_name[name] for name in sorted(by_name)]
    write_library(library, _entries(chunks, names, members, splits, new), used)
    _write_unknown(names, folder)
    _write_duplicates(copies, members, splits, folder)
    return Gathered(
        held_out,
        tuple(found.failures),
        len(names.unknown),
        len(copies),
        tuple(used),
        {source: dict(sorted(of.items())) for source, of in sorted(found.licenses.items())},
        tuple(sorted(found.generated)),
    )


def _find(chunks: Sequence[Path], names: "_Names", *, by_sound: bool) -> _Found:
    found = _Found(by_sound)
    for row in read_prepared(chunks):
        if isinstance(row, Failure):
            found.failures.append(row)
            continue
        problem = names.problem(row.recording)
        if problem:
            found.failures.append(Failure(row.recording.source, row.recording.file_name, problem))
            continue
        focal, background = names.taxa(row.recording)
        found.add(row, (*focal, *background))
    return found


def _entries(
    chunks: Sequence[Path],
    names: "_Names",
    members: Sequence[Member],
    splits: Sequence[str],
    new: Sequence[Novelty],
) -> Iterator[Entry]:
    """The usable recordings again, from the chunks: all of them at once may not fit into memory."""
    place = 0
    for row in read_prepared(chunks):
        if isinstance(row, Failure) or names.problem(row.recording):
            continue
        focal, background = names.taxa(row.recording)
        group, split = members[place].group, splits[place]
        yield Entry(row.recording, focal, background, split, new[place], group, row.activity, row.duration)
        place += 1


def _member(recording: Recording, taxa: tuple[Taxon, ...]) -> Member:
    source = recording.source
    return Member(
        key=f"{source}:{recording.id}",
        taxa=tuple(dict.fromkeys(taxa)),
        group=f"{source}:{recording.group or recording.id}",
        file=f"{source}:{recording.file_name}",
        recordist=f"{source}:{recording.recordist}" if recording.recordist else "",
        archive_split=recording.split,
    )


def _naming_held_out(found: _Found, held_out: HeldOut, names: "_Names") -> list[Member]:
    """Members, those marked whose archive's own words name what training must not hear of.

    Also those of a name that is not known, but may stand for a held-out taxon: misspelt, or of several.
    """
    named = {rank: getattr(held_out, rank) for rank in ("species", "genera", "families")}
    finder = HeldOutNames(named, names.taxonomy)
    if not finder:
        return found.members
    doubtful = {name for _, name in names.unknown if finder.of_taxon(name)}
    return [
        replace(
            member,
            names_held_out=bool(finder.of_text(found.texts.get(row, "")))
            or any(taxon.scientific_name in doubtful for taxon in member.taxa),
        )
        for row, member in enumerate(found.members)
    ]


def _taxonomy(chunks: Sequence[Path], options: BuildOptions) -> Taxonomy:
    """All taxonomies of the options, as far as the recordings' names need them."""
    built_in = Taxonomy.built_in()
    if not options.taxonomy:
        return built_in
    wanted = {
        name
        for row in read_prepared(chunks)
        if isinstance(row, Prepared)
        for name in (*row.recording.species, *row.recording.background)
    } | set(options.splits.species)
    first, *others = [Taxonomy.open(path, wanted=wanted) for path in options.taxonomy]
    for other in (*others, built_in):
        first = first.merged_with(other)
    return first


class _Names:
    """Names of archives, resolved once each; those that are not known are remembered."""

    def __init__(self, taxonomy: Taxonomy, *, strict: bool) -> None:
        self.taxonomy = taxonomy
        self.unknown: dict[tuple[str, str], Match] = {}
        """By source and name."""
        self.uses: Counter[tuple[str, str]] = Counter()
        self._strict = strict
        """Whether the taxonomy is a full one, so that a name that is nearly one of its own is misspelt."""
        self._matches: dict[str, Match] = {}
        self._fauna = {species.scientific_name: _fauna_taxon(species) for species in SPECIES}

    def problem(self, recording: Recording) -> str:
        """Why a recording's names cannot be used; empty if they can."""
        if recording.source == FAUNA:
            return ""
        for name in (*recording.species, *recording.background):
            if not latin_key(name):
                return f"the taxon {name!r} has no letters: correct it in the archive's metadata"
            match = self._match(name)
            doubtful = self._strict and match.how in {"misspelling", "ambiguous"}
            if name.lower() != UNIDENTIFIED and doubtful:
                meant = " or ".join(match.suggestions)
                return f"the taxon {name!r} is {match.how} for {meant}: correct it in the archive's metadata"
        return ""

    def taxa(self, recording: Recording) -> tuple[tuple[Taxon, ...], tuple[Taxon, ...]]:
        """Focal and background taxa. A name that is not known stands for itself, and is remembered."""
        common = dict(zip(recording.species, recording.common_names, strict=False))
        focal = tuple(self._taxon(recording, name, common.get(name, "")) for name in recording.species)
        background = tuple(self._taxon(recording, name, "") for name in recording.background)
        return tuple(dict.fromkeys(focal)), tuple(
            taxon for taxon in dict.fromkeys(background) if taxon not in focal
        )

    def _taxon(self, recording: Recording, name: str, common: str) -> Taxon:
        if recording.source == FAUNA:
            return self._fauna[name]
        if name.lower() == UNIDENTIFIED:
            return Taxon(UNIDENTIFIED, rank="unranked")
        match = self._match(name)
        if match.taxon is not None:
            taxon = match.taxon
            return replace(taxon, common_name=common) if common and not taxon.common_name else taxon
        use = (recording.source, name)
        self.unknown[use] = match
        self.uses[use] += 1
        words = name.split()
        binomial = len(words) == 2 and name.isascii() and words[0].istitle() and words[1].islower()
        return Taxon(
            name, common_name=common or ("" if binomial else name), genus=words[0] if binomial else ""
        )

    def _match(self, name: str) -> Match:
        if name not in self._matches:
            self._matches[name] = self.taxonomy.resolve(name)
        return self._matches[name]


def _fauna_taxon(species: object) -> Taxon:
    fields = ("scientific_name", "common_name", "genus", "family", "order", "class_name", "phylum")
    return Taxon(**{name: getattr(species, name) for name in fields})


def _write_unknown(names: _Names, folder: Path) -> None:
    # The library's pass counts every name a second time.
    rows = [
        (source, name, names.uses[source, name] // 2, match.how, "; ".join(match.suggestions))
        for (source, name), match in sorted(names.unknown.items())
    ]
    write_csv(folder / UNKNOWN_TAXA, ("source", "name", "recordings", "how", "suggestions"), rows)


def _write_duplicates(
    copies: Sequence[Duplicate], members: Sequence[Member], splits: Sequence[str], folder: Path
) -> None:
    places = {member.key: place for place, member in enumerate(members)}
    rows = [
        (
            members[places[copy.first]].file,
            members[places[copy.second]].file,
            f"{copy.overlap.length:.2f}",
            f"{copy.overlap.error_rate:.3f}",
            splits[places[copy.first]],
        )
        for copy in copies
    ]
    write_csv(folder / DUPLICATES, ("first", "second", "shared_seconds", "error_rate", "split"), rows)


def write_failures(failures: Sequence[Failure], folder: Path) -> None:
    """The table of what could not be used, and why."""
    rows = [(failure.source, failure.file_name, failure.cause) for failure in failures]
    write_csv(folder / FAILURES, ("source", "file_name", "cause"), rows)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table beside the shards; there even when it is empty, so that its emptiness can be seen."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
