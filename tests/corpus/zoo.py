"""A library that every task finds recordings in, of both realms, in training and test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from entries import entry, invented, library, noise, species, stored, tone, voice

from naturelm.corpus.augment import AugmentOptions
from naturelm.corpus.cast import Cast
from naturelm.corpus.library import Entry, Library
from naturelm.corpus.scene import SceneOptions, UnusablePair
from naturelm.corpus.starter.noise import Weather
from naturelm.corpus.tasks import Draft, Studio, Task

PLAIN = SceneOptions(seconds=2.5, augment=AugmentOptions(probability=0.0, noise_probability=0.0))
REAL = [species(family, genus, number) for family in range(4) for genus in range(2) for number in range(2)]
HELD_OUT = [species(9, 0, number) for number in range(3)]
FAUNA_INDEXES = (0, 1, 5, 16, 17, 200, 480, 481, 720, 1500, 2222, 2879)
HELD_OUT_INVENTED = (100, 1000, 2000)
STAGES = ("adult", "juvenile", "nestling")
CALLS = ("song", "call", "alarm call")
WEATHERS: tuple[Weather, ...] = ("rain", "wind", "hiss")


def zoo(folder: Path) -> Library:
    """Four families of real birds by three recordists each, invented animals, speech, notes, places, noise."""
    return library(folder, [*_real(folder), *_invented(), *_others(folder)], "zoo")


def _real(folder: Path) -> Iterator[Entry]:
    for number, taxon in enumerate([*REAL, *HELD_OUT]):
        split = "test" if taxon in HELD_OUT else "train"
        sound = stored(folder / f"bird{number}.wav", tone(500 + 300 * number, 0.4, before=0.1, after=0.1))
        for individual in range(3):
            yield entry(
                f"bird{number}-{individual}",
                sound,
                (taxon,),
                split=split,
                recordist=f"recordist {individual}",
                region=("Peru", "Chile")[number % 2],
                life_stage=STAGES[individual],
                call_types=(CALLS[individual],),
                sex=("female", "m", "")[individual],
            )


def _invented() -> Iterator[Entry]:
    for index in (*FAUNA_INDEXES, *HELD_OUT_INVENTED):
        split = "test" if index in HELD_OUT_INVENTED else "train"
        for individual in range(4):
            yield invented(index, individual, split=split)
        yield invented(index, 0, call_type="alarm call", split=split)


def _others(folder: Path) -> Iterator[Entry]:
    for split in ("train", "test"):
        for weather in WEATHERS:
            yield noise(weather, split=split)
        for number, hertz in enumerate((100, 170, 250)):
            yield entry(
                f"speech{number}-{split}",
                stored(folder / f"speech{number}-{split}.wav", voice(hertz)),
                split=split,
                kind="speech",
                recordist=f"{split} speaker {number}",
                sex=("male", "female")[number > 1],
                transcript=f"sentence {number}",
            )
        for number, instrument in enumerate(("strings", "brass", "flute")):
            samples = tone(440, 0.5)
            sound = stored(folder / f"note{number}-{split}.wav", samples)
            yield entry(
                f"note{number}-{split}", sound, split=split, kind="music", instrument=instrument, pitch=69
            )
        for number, label in enumerate(("siren", "church bells", "engine", "clock")):
            sound = stored(folder / f"place{number}-{split}.wav", tone(700 + 100 * number, 0.8))
            yield entry(f"place{number}-{split}", sound, split=split, kind="environment", labels=(label,))
        own = stored(folder / f"own-{split}.wav", tone(900, 1.0))
        yield entry(
            f"asked-{split}",
            own,
            split=split,
            kind="environment",
            instruction="<Audio><AudioHere></Audio> Is it raining?",
            answer="No, it is a tone.",
        )
        yield entry(f"told-{split}", own, split=split, kind="environment", caption="A tone sounds.")


def studio(of: Library, split: str = "train", options: SceneOptions = PLAIN) -> Studio:
    """Where pairs of a split are made."""
    return Studio(Cast(of, split), options, first_wording=split == "test")


def fitting(task: Task, of: Library, split: str = "train", *, realm: str = "any") -> list[Entry]:
    """Recordings of a split that the task can be asked about."""
    rows = [one for one in of if one.split == split and task.fits(one)]
    return [
        one for one in rows if realm == "any" or (one.recording.source == "fauna") == (realm == "invented")
    ]


def drafts(
    task: Task, entries: list[Entry], place: Studio, count: int, *, seed: int = 0
) -> list[tuple[Entry, Draft]]:
    """So many pairs about these recordings by turns; others are drawn in place of those that cannot be made."""
    made: list[tuple[Entry, Draft]] = []
    for number in range(20 * count):
        rng = np.random.default_rng([seed, number])
        one = entries[int(rng.integers(len(entries)))] if number >= len(entries) else entries[number]
        try:
            made.append((one, task.make(one, place, rng)))
        except UnusablePair:
            continue
        if len(made) == count:
            return made
    raise AssertionError(f"{task.name}: {len(made)} of {count} pairs could be made")


def names_heard(draft: Draft) -> set[str]:
    """Every name by which something in the clip could be called."""
    names: set[str] = set()
    for one in draft.scene.entries:
        names.update(one.recording.labels)
        for taxon in one.all_taxa:
            names.update(
                (taxon.common_name, taxon.scientific_name, taxon.taxonomic_name, taxon.genus, taxon.family)
            )
    return names
