"""Leaks from one split into another: the same recordings, recordists, held-out taxa, copies of a sound.

Held in memory: two texts for each recording, file and group of a corpus (about 500 bytes a recording),
and fingerprints of 3 MB per hour of sound.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import zip_longest

from naturelm.corpus.check_rows import RowFacts
from naturelm.corpus.findings import APART, HELD_OUT, NEAR_DUPLICATES, Finding, shown
from naturelm.corpus.fingerprint import DuplicateFinder, Overlap
from naturelm.corpus.held_out import HeldOutNames
from naturelm.corpus.schema import NONE_ANSWER, SPLITS

_SPLIT_AGAIN = "put both in one split: build the corpus again"


class Apart:
    """What is heard in one split is heard in no other: recordings, their files and groups, recordists.

    Recordists are compared within a source, for two archives' users of one name need not be one person.
    Two kinds of recordist may be in several splits. A synthetic source's are no persons. And whoever
    recorded a held-out taxon must be in the test split with it, though the model may train on what else
    they recorded; so a test row with a held-out taxon says nothing about its recordists, while its
    recordings, files and groups count as everywhere.
    """

    def __init__(self, *, recordists: bool, generated: Collection[str], held_out: HeldOutNames) -> None:
        """recordists: whether the corpus claims to keep them apart. generated: synthetic sources."""
        self._recordists = recordists
        self._generated = frozenset(generated)
        self._held_out = held_out
        self._first: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        """(kind, split) -> value -> row in which it was first met."""
        self._reported: set[tuple[str, str, frozenset[str]]] = set()

    def look(self, row: RowFacts) -> Iterator[Finding]:
        """Compare a row with all before it. Each value is reported once for each two splits."""
        pair = row.pair
        columns = (pair.recordings, pair.source_files, pair.groups, self._persons(row))
        for values in zip_longest(*columns, fillvalue=""):
            met = [
                finding
                for kind, value in zip(
                    ("recording", "source file", "group", "recordist"), values, strict=True
                )
                for finding in self._meet(kind, value, row)
            ]
            # Where a recording is in two splits, so are its file, group and recordist.
            yield from met[:1]

    def _persons(self, row: RowFacts) -> list[str]:
        pair = row.pair
        if not self._recordists or (row.split == "test" and any(map(self._held_out.of_taxon, pair.taxa))):
            return []
        sources = (recording.partition(":")[0] for recording in pair.recordings)
        return [
            f"{source}:{recordist}" if recordist and source not in self._generated else ""
            for source, recordist in zip(sources, pair.recordists, strict=False)
        ]

    def _meet(self, kind: str, value: str, row: RowFacts) -> Iterator[Finding]:
        if not value:
            return
        self._first[kind, row.split].setdefault(value, row.where)
        for other in SPLITS:
            case = (kind, value, frozenset((row.split, other)))
            if other == row.split or value not in self._first[kind, other] or case in self._reported:
                continue
            self._reported.add(case)
            what = f"its {kind} {shown(value)} is in {other} as well: {self._first[kind, other][value]}"
            yield Finding(APART, row.where, what, _SPLIT_AGAIN)


def held_out_in(row: RowFacts, held_out: HeldOutNames) -> Iterator[Finding]:
    """Held-out taxa that are in a row, or that it names. For rows that are trained on or tuned by."""
    pair = row.pair
    cure = "leave the recording out of this split: build the corpus again"
    for taxon in pair.taxa:
        if held := held_out.of_taxon(taxon):
            what = f"{shown(taxon)} is in the clip, but {shown(held)} is held out"
            yield Finding(HELD_OUT, row.where, what, cure)
            return
    texts = dict.fromkeys(
        (*(() if pair.output == NONE_ANSWER else (pair.output, *pair.labels)), *pair.options)
    )
    for text in texts:
        if held := held_out.of_answer(text):
            what = f"{shown(text)!r} names {shown(held)}, which is held out"
            yield Finding(HELD_OUT, row.where, what, cure)
            return


class NearDuplicates:
    """The same sound in a clip that is trained on and in one of another split, under other names.

    Clips of one recording are not paired here: that it is in two splits is for `Apart` to say.
    """

    def __init__(self) -> None:
        self._trained, self._kept_back = DuplicateFinder(), DuplicateFinder()
        self._recordings: dict[str, frozenset[str]] = {}
        self._trained_digests: dict[bytes, list[str]] = {}
        self._digests: list[tuple[str, bytes]] = []

    def take(self, row: RowFacts) -> bool:
        """Take up a row's clip. False if it has none that could be compared."""
        trained = row.split == "train"
        if row.fingerprint is not None:
            (self._trained if trained else self._kept_back).add(row.where, row.fingerprint)
        elif row.digest is not None and trained:
            self._trained_digests.setdefault(row.digest, []).append(row.where)
        elif row.digest is not None:
            self._digests.append((row.where, row.digest))
        else:
            return False
        self._recordings[row.where] = frozenset(row.pair.recordings)
        return True

    def found(self) -> Iterator[Finding]:
        """One finding for each clip outside training that has copies in it."""
        copies: dict[str, tuple[str, str, int]] = {}

        def pair_up(trained: str, kept_back: str, shared: str) -> None:
            if not self._recordings[trained] & self._recordings[kept_back]:
                first, told, count = copies.get(kept_back, (trained, shared, 0))
                copies[kept_back] = (first, told, count + 1)

        for duplicate in self._trained.duplicates_with(self._kept_back):
            pair_up(duplicate.first, duplicate.second, _told(duplicate.overlap))
        for where, digest in self._digests:
            for trained in self._trained_digests.get(digest, ()):
                pair_up(trained, where, "every sample")
        for where, (trained, shared, count) in copies.items():
            more = f", and with {count - 1} more clips" if count > 1 else ""
            recordings = shown(", ".join(sorted(self._recordings[trained])))
            what = f"shares {shared} with a clip that is trained on: {trained} of {recordings}{more}"
            yield Finding(NEAR_DUPLICATES, where, what, "take one of the two recordings out of its archive")


def _told(overlap: Overlap) -> str:
    return f"{overlap.length:.1f} s of sound"
