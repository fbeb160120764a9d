"""Invented species, named by what can be heard: 6 timbres x 6 contours x 5 registers x 4 tempi x 4 counts.

Order = timbre, family = timbre and contour, genus = family and register, species = genus, tempo and count.
Each trait value has one English word and one Latin-like stem, so a name is read off a call and a call
off a name. docs/fauna.md has the table.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import product

PHYLUM = "Fictozoa"
CLASS = "Fictophonia"


class Timbre(Enum):
    """What a note is made of. `word` is the noun of the common name, `stem` opens the scientific one."""

    WHISTLE = ("whistler", "sibi")
    """One pure tone."""
    HONK = ("honker", "tubo")
    """Odd and even harmonics."""
    CHIME = ("chimer", "tinti")
    """Two tones at once, about a tritone apart, one below the centre and one above."""
    BUZZ = ("buzzer", "zumbi")
    """A tone in 80 to 100 pulses per second."""
    RASP = ("rasper", "rauci")
    """A tone within a band of noise."""
    TRILL = ("triller", "tremi")
    """A tone that quivers 26 to 31 times per second, in pitch and in strength."""

    def __init__(self, word: str, stem: str) -> None:
        self.word = word
        self.stem = stem


class Contour(Enum):
    """How pitch moves within each note; for `ROCKING`, from note to note."""

    LEVEL = ("level", "plan")
    RISING = ("rising", "scan")
    FALLING = ("falling", "cad")
    ARCHING = ("arching", "curv")
    """Up, then down."""
    DIPPING = ("dipping", "vall")
    """Down, then up."""
    ROCKING = ("rocking", "nut")
    """Level notes, high and low by turns, the first high."""

    def __init__(self, word: str, stem: str) -> None:
        self.word = word
        self.stem = stem


class Register(Enum):
    """The pitch that notes lie around: `hertz` is the geometric centre, neighbours are 1.625 apart."""

    DEEP = ("deep", "ima", 430.0)
    LOW = ("low", "ona", 700.0)
    MEDIUM = ("medium", "edia", 1140.0)
    HIGH = ("high", "alta", 1850.0)
    SHRILL = ("shrill", "acra", 3000.0)

    def __init__(self, word: str, stem: str, hertz: float) -> None:
        self.word = word
        self.stem = stem
        self.hertz = hertz


class Tempo(Enum):
    """How fast notes follow each other: `rate` is notes per second, neighbours are 1.5 apart."""

    SLOW = ("slow", "lenti", 2.4)
    STEADY = ("steady", "pari", 3.6)
    QUICK = ("quick", "cito", 5.4)
    RAPID = ("rapid", "velo", 8.1)

    def __init__(self, word: str, stem: str, rate: float) -> None:
        self.word = word
        self.stem = stem
        self.rate = rate


class Count(Enum):
    """How many notes a phrase has."""

    TWO = ("two-note", "bina", 2)
    THREE = ("three-note", "trina", 3)
    FOUR = ("four-note", "quadra", 4)
    SIX = ("six-note", "sena", 6)

    def __init__(self, word: str, stem: str, notes: int) -> None:
        self.word = word
        self.stem = stem
        self.notes = notes


@dataclass(frozen=True)
class Traits:
    """What is heard, from the order's trait to the species'."""

    timbre: Timbre
    contour: Contour
    register: Register
    tempo: Tempo
    count: Count


@dataclass(frozen=True)
class FaunaSpecies:
    """An invented species: its traits, and the names that follow from them."""

    index: int
    """Place in `SPECIES`."""
    traits: Traits

    @property
    def common_name(self) -> str:
        """Such as `rapid three-note high rising whistler`."""
        traits = self.traits
        order = (traits.tempo, traits.count, traits.register, traits.contour, traits.timbre)
        return " ".join(trait.word for trait in order)

    @property
    def scientific_name(self) -> str:
        """Such as `Sibiscanalta velotrina`."""
        return f"{self.genus} {self.traits.tempo.stem}{self.traits.count.stem}"

    @property
    def genus(self) -> str:
        """Such as `Sibiscanalta`: all of one timbre, contour and register."""
        return self._family_stem + self.traits.register.stem

    @property
    def family(self) -> str:
        """Such as `Sibiscanidae`: all of one timbre and contour."""
        return f"{self._family_stem}idae"

    @property
    def order(self) -> str:
        """Such as `Sibiformes`: all of one timbre."""
        return f"{self.traits.timbre.stem.capitalize()}formes"

    @property
    def class_name(self) -> str:
        """One for all."""
        return CLASS

    @property
    def phylum(self) -> str:
        """One for all."""
        return PHYLUM

    @property
    def _family_stem(self) -> str:
        return (self.traits.timbre.stem + self.traits.contour.stem).capitalize()


SPECIES: tuple[FaunaSpecies, ...] = tuple(
    FaunaSpecies(index, Traits(*values))
    for index, values in enumerate(product(Timbre, Contour, Register, Tempo, Count))
)
"""All 2,880, in an order that never changes: relatives are neighbours."""
