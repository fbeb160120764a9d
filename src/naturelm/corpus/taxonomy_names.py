"""Names of animals as people write them: taxa, the keys under which names are compared, near spellings.

Facts about zoological names are those of the International Code of Zoological Nomenclature (4th ed.):
genus, optional subgenus in brackets, species, optional subspecies, then optional author and year.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from naturelm.errors import NatureLMError


class TaxonomyError(NatureLMError):
    """A taxonomy that cannot be read or written: missing, damaged, or in an unknown format."""


@dataclass(frozen=True, slots=True)
class Taxon:
    """An accepted species, or a group of a higher rank. Unstated facts are empty."""

    scientific_name: str
    common_name: str = ""
    genus: str = ""
    family: str = ""
    order: str = ""
    class_name: str = ""
    phylum: str = ""
    rank: str = "species"
    """`species`, `genus`, `family`, `order`, `class`, `phylum`; `subspecies` where its species is absent."""
    synonyms: tuple[str, ...] = ()
    """Other scientific names."""
    other_names: tuple[str, ...] = ()
    """Other common names."""

    @property
    def taxonomic_name(self) -> str:
        """As BEANS-Zero writes it: `Chordata Aves Anseriformes Anatidae Amazonetta brasiliensis`.

        Phylum, class, order and family, empty ones left out, then the scientific name.
        """
        ranks = (self.phylum, self.class_name, self.order, self.family)
        above = [name for name in ranks if name and name != self.scientific_name]
        return " ".join([*above, self.scientific_name])


_MARKS_FROM = 200  # combining classes 200 and up are accents; below are parts of letters (kana, Indic)
_APOSTROPHES = "'`´’‘ʼʻʹ′"
_HYPHENS = "-‐‑‒–—−­"
_DROPPED = {ord(sign): "" for sign in _APOSTROPHES}
_JOINED = {ord(sign): "" for sign in _HYPHENS}
_LETTERS = {ord(old): new for old, new in zip("æœøłđı", ("ae", "oe", "o", "l", "d", "i"), strict=True)}
_ASCII_WORDS = re.compile(r"[a-z0-9]+")
_BRACKETS = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_YEAR = re.compile(r"\b1[789]\d\d\b|\b20\d\d\b")
_HYBRID = re.compile(r"\s+[xX]\s+|\s*×\s*")
_MOST_ALTERNATIVES = 4

_OPEN = {"sp", "spp", "species", "aff", "indet"}
_FILLERS = {"cf", "ssp", "subsp", "var", "subspecies"}
_PARTICLES = {"de", "da", "du", "la", "le", "van", "von", "der", "den", "zu", "et", "and", "ex", "in", "d"}


def name_key(name: str) -> str:
    """A name without case, accents, apostrophes and punctuation, its words parted by single spaces.

    Letters of every alphabet stay; hyphens and underscores part words.
    """
    text = name.translate(_DROPPED)
    if text.isascii():
        return " ".join(_ASCII_WORDS.findall(text.lower()))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = text.casefold().translate(_LETTERS).translate(_DROPPED)
    return " ".join("".join(map(_letter, text)).split())


def _letter(sign: str) -> str:
    category = unicodedata.category(sign)
    if category == "Cf" or unicodedata.combining(sign) >= _MARKS_FROM:
        return ""
    return sign if sign.isalnum() or category[0] == "M" else " "


def latin_key(name: str) -> str:
    """The key of a scientific name: `name_key`, but a hyphen joins (`novae-hollandiae`)."""
    return name_key(name.translate(_JOINED))


def common_key(name: str) -> str:
    """The key of a common name: `wood pigeon`, `wood-pigeon` and `woodpigeon` are one."""
    return name_key(name).replace(" ", "")


class Reading(NamedTuple):
    """One way to read a name."""

    key: str
    latin: bool = False
    """Only a scientific name is meant."""
    subspecies: bool = False
    """The name went on with the name of a subspecies."""
    rest: tuple[str, ...] = ()
    """Words that follow the key, as keys: author and year, or a subspecies."""


def readings(name: str) -> list[Reading]:
    """Ways to read a name, the most literal first; empty if nothing in it is a letter or a digit."""
    outside = _BRACKETS.sub(" ", name.replace("_", " "))
    found = [Reading(latin_key(name)), Reading(name_key(name))]
    if not _HYBRID.search(outside):
        found += [*_latin_readings(outside), Reading(name_key(outside))]
    return [reading for reading in dict.fromkeys(found) if reading.key]


def _latin_readings(text: str) -> Iterable[Reading]:
    tokens: list[str] = []
    is_open = False
    for token in text.split():
        word = latin_key(token).replace(" ", "")
        if tokens and word in _OPEN:
            is_open = True
            break
        if word and word not in _FILLERS:
            tokens.append(token)
    words = [latin_key(token).replace(" ", "") for token in tokens]
    if is_open:
        yield Reading(" ".join(words))
        return
    if len(words) >= 2:
        subspecies = len(words) > 2 and _is_epithet(tokens, text)
        yield Reading(" ".join(words[:2]), latin=True, subspecies=subspecies, rest=tuple(words[2:]))
    if len(words) == 1 or (len(words) > 1 and _is_author(tokens)):
        yield Reading(words[0], latin=True, rest=tuple(words[1:]))


def _is_author(tokens: list[str]) -> bool:
    """Whether the second word is a genus's author; a misspelt species must not pass for one."""
    following = tokens[2] if len(tokens) > 2 else ""
    return tokens[1][0].isupper() and not tokens[1].isupper() and bool(_YEAR.match(following))


def _is_epithet(tokens: list[str], text: str) -> bool:
    """Whether the third word names a subspecies rather than an author."""
    third = tokens[2]
    following = tokens[3] if len(tokens) > 3 else ""
    if not third.replace("-", "").replace("/", "").isalpha() or third.lower() in _PARTICLES:
        return False
    if text not in (text.lower(), text.upper()):
        return third == third.lower()
    return not (_YEAR.match(following) or following.lower() in {"&", "et", "and"})


def alternatives(name: str) -> list[tuple[str, ...]]:
    """Names that a hybrid (`Anas acuta x crecca`) or an undecided pair (`Corvus corone/cornix`) is of.

    Ways to split the name, the likeliest first; each has at least two names. Empty for a plain name.
    """
    parts = tuple(part.strip() for part in _HYBRID.split(name))
    if 2 <= len(parts) <= _MOST_ALTERNATIVES and all(parts):
        genus = parts[0].split()[0]
        return [parts, (parts[0], *(f"{genus} {part}" for part in parts[1:]))]
    parts = tuple(part.strip() for part in name.split("/"))
    if not 2 <= len(parts) <= _MOST_ALTERNATIVES or not all(parts):
        return []
    before, after = parts[0].split()[:-1], parts[-1].split()[1:]
    words = [parts[0].split()[-1], *parts[1:-1], parts[-1].split()[0]]
    return [tuple(" ".join([*before, word, *after]) for word in words), parts]


def name_keys(names: Iterable[str]) -> set[str]:
    """Every key under which a taxonomy may find one of the names, scientific or (joined) common."""
    keys: set[str] = set()
    for name in names:
        for text in [name, *(part for parts in alternatives(name) for part in parts)]:
            for reading in readings(text):
                keys.update((reading.key, reading.key.replace(" ", "")))
    return keys


_LONGEST = 100  # no animal's name is longer: nothing is near it
_SHORTEST_FUZZY = 5
_START = 3


def _allowed(key: str) -> int:
    return (len(key) >= 4) + (len(key) >= 8) + (len(key) >= 16)


class NearNames:
    """An index that finds names spelt almost like another without comparing it to all of them.

    A name is compared with those that share a word with it; if none of them is near, with those that
    have a word with at most two slips, all of them among its first three letters or all after them.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = sorted(set(keys))
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, key in enumerate(self._keys):
            for word in set(key.split()):
                self._by_word[word].append(number)
        self._by_part: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in self._by_word:
            if len(word) >= _SHORTEST_FUZZY - 1:
                self._by_part[f"{word[:_START]}-", len(word)].append(word)
                self._by_part[f"-{word[_START:]}", len(word)].append(word)

    def near(self, key: str, limit: int = 5) -> list[str]:
        """The nearest names, nearest first: one slip in names of 4 letters, two from 8, three from 16."""
        allowed = _allowed(key)
        if not allowed or len(key) > _LONGEST:
            return []
        for candidates in (self.sharing_a_word(key), self.sharing_part_of_a_word(key)):
            distances = ((edit_distance(key, candidate, allowed), candidate) for candidate in candidates)
            best = sorted(pair for pair in distances if pair[0] <= allowed)
            if best:
                return [candidate for _, candidate in best[:limit]]
        return []

    def sharing_a_word(self, key: str) -> set[str]:
        """Names of about the same length that have a word of `key`."""
        return {name for word in set(key.split()) for name in self._with_word(word, len(key), _allowed(key))}

    def sharing_part_of_a_word(self, key: str) -> set[str]:
        """Names of about the same length that have a word spelt almost like one of `key`."""
        found: set[str] = set()
        for word in set(key.split()):
            if len(word) < _SHORTEST_FUZZY:
                continue
            for length in range(len(word) - 1, len(word) + 2):
                for part in (f"{word[:_START]}-", f"-{word[_START - length :]}"):
                    for other in self._by_part.get((part, length), ()):
                        if edit_distance(word, other, 2) <= 2:
                            found.update(self._with_word(other, len(key), _allowed(key)))
        return found

    def _with_word(self, word: str, length: int, margin: int) -> Iterable[str]:
        for number in self._by_word.get(word, ()):
            if abs(len(self._keys[number]) - length) <= margin:
                yield self._keys[number]


def edit_distance(one: str, other: str, limit: int) -> int:
    """Letters put in, left out, exchanged or swapped with their neighbour; `limit + 1` for any more.

    The optimal string alignment distance, given up as soon as it must exceed the limit.
    """
    if one == other:
        return 0
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, opposite in enumerate(other, 1):
            cost = min(row[-1] + 1, last[j] + 1, last[j - 1] + (letter != opposite))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == opposite:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        # A swap reaches back two rows, so both must be beyond the limit before giving up.
        if min(row) > limit and min(last) > limit:
            return limit + 1
        before, last = last, row
    return min(last[-1], limit + 1)
