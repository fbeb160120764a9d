"""Whether a name or a sentence gives away a held-out taxon, under any name that the taxonomy knows."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

from naturelm.corpus.taxonomy import Taxon, Taxonomy
from naturelm.corpus.taxonomy_names import common_key, latin_key, name_key

_MOST_REMEMBERED = 100_000
_MOST_WORDS = 12
_SHORTEST = 3  # letters: nothing shorter is an animal's name


class HeldOutNames:
    """Held-out taxa, and the texts in which they are named. Findings are remembered: texts come often."""

    def __init__(self, held_out: Mapping[str, Collection[str]], taxonomy: Taxonomy) -> None:
        """held_out: names by rank, as the manifest has them: `species`, `genera`, `families`."""
        self._taxonomy = taxonomy
        self._genera = {latin_key(name): name for name in held_out.get("genera", ())}
        self._families = {latin_key(name): name for name in held_out.get("families", ())}
        self._groups = {**self._genera, **self._families}
        """Genera and families by name, common names too."""
        self._species: dict[str, str] = {}
        unknown = []
        for name in held_out.get("species", ()):
            taxon = taxonomy.resolve(name).taxon
            if taxon is None:
                unknown.append(name)
            accepted = name if taxon is None else taxon.scientific_name
            self._species[latin_key(accepted)] = accepted
        self.unknown: tuple[str, ...] = tuple(unknown)
        """Held-out species that the taxonomy does not know: they are looked for by this name alone."""
        self._known: set[str] = set()
        self._named: dict[str, str] = {}
        self._longest = 0
        if self:
            self._read_names()
        self._groups.pop("", None)
        self.of_taxon = lru_cache(_MOST_REMEMBERED)(self._of_taxon)
        """The held-out taxon that a name stands for, or may stand for; empty if it stands for none."""
        self.of_text = lru_cache(_MOST_REMEMBERED)(self._of_text)
        """The held-out species that a text names; empty if there is none.

        A name counts as whole words, in the singular or plural, that are not part of a longer name: a
        held-out "owl" is not named by "barn owl". A name that other species have too counts only if
        the taxonomy takes it for the held-out one.
        """

    def __bool__(self) -> bool:
        return bool(self._species or self._genera or self._families)

    def of_answer(self, answer: str) -> str:
        """The held-out genus or family that an answer or option is, or the species that it names."""
        return self._groups.get(latin_key(answer)) or self.of_text(answer)

    def _read_names(self) -> None:
        """Every name that the taxonomy knows, and which of them are held-out species'."""
        homes: defaultdict[str, set[str]] = defaultdict(set)
        names: dict[str, str] = {}
        for taxon in self._taxonomy:
            held = self._holding(taxon)
            if held and taxon.rank not in {"species", "subspecies"}:
                for name in (taxon.common_name, *taxon.other_names):
                    self._groups[latin_key(name)] = held
                continue
            for name in (taxon.scientific_name, taxon.common_name, *taxon.synonyms, *taxon.other_names):
                key = common_key(name)
                if len(key) < _SHORTEST:
                    continue
                self._longest = max(self._longest, len(name_key(name).split()))
                homes[key].add(taxon.scientific_name if held else "")
                if held:
                    names[key] = name
        for name in self._species.values():
            homes[common_key(name)].add(name)
            self._longest = max(self._longest, len(name_key(name).split()))
        # One word more: "wood pigeon" is two, where the taxonomy may have "woodpigeon".
        self._longest = min(self._longest + 1, _MOST_WORDS)
        self._known = set(homes)
        for key, of in homes.items():
            held_names = sorted(of - {""})
            if not held_names:
                continue
            meant = self._taxonomy.resolve(names[key]).taxon if "" in of else None
            if "" not in of or (meant is not None and self._holding(meant)):
                self._named[key] = held_names[0]

    def _holding(self, taxon: Taxon) -> str:
        """The held-out taxon that a taxon is, or belongs to; empty if it may be trained on."""
        genus = taxon.genus or taxon.scientific_name.split()[0]
        return (
            self._species.get(latin_key(taxon.scientific_name))
            or self._genera.get(latin_key(genus))
            or self._families.get(latin_key(taxon.family))
            or ""
        )

    def _of_taxon(self, name: str) -> str:
        match = self._taxonomy.resolve(name)
        if match.taxon is not None:
            return self._holding(match.taxon)
        for suggestion in match.suggestions:
            taxon = self._taxonomy.resolve(suggestion).taxon
            if taxon is not None and (held := self._holding(taxon)):
                return held
        key = latin_key(name)
        return self._species.get(key) or self._genera.get(key.partition(" ")[0]) or ""

    def _of_text(self, text: str) -> str:
        found = list(self._phrases(name_key(text).split()))
        for begin, end, key in found:
            inside = any(b <= begin and end <= e and (b, e) != (begin, end) for b, e, _ in found)
            if key in self._named and not inside:
                return self._named[key]
        return ""

    def _phrases(self, words: list[str]) -> Iterator[tuple[int, int, str]]:
        """The longest known name that begins at each word: first word, the one after its last, and key."""
        for begin in range(len(words)):
            for end in range(min(len(words), begin + self._longest), begin, -1):
                stem = "".join(words[begin : end - 1])
                key = next(
                    (stem + last for last in _singulars(words[end - 1]) if stem + last in self._known), None
                )
                if key is not None:
                    yield begin, end, key
                    break


def _singulars(word: str) -> tuple[str, ...]:
    """A word, and what it may be the plural of."""
    if not word.endswith("s") or len(word) <= _SHORTEST:
        return (word,)
    if word.endswith("ies"):
        return (word, word[:-1], f"{word[:-3]}y")
    return (word, word[:-1], word[:-2]) if word.endswith("es") else (word, word[:-1])
