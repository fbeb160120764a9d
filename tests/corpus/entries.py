"""Small libraries for the tests: entries of sounds that are generated on the spot."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

from naturelm.corpus.activity import Activity
from naturelm.corpus.cast import FAUNA
from naturelm.corpus.fauna import SPECIES, CallType, LifeStage
from naturelm.corpus.library import Entry, Library, write_library
from naturelm.corpus.recordings import FileSound, FloatArray, Recording, Sound
from naturelm.corpus.starter.fauna_source import FaunaSound
from naturelm.corpus.starter.noise import NoiseSound, Weather
from naturelm.corpus.taxonomy import Taxon

RATE = 16_000


def tone(hertz: float, seconds: float, *, before: float = 0.0, after: float = 0.0) -> FloatArray:
    """A tone between two stretches of very soft noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    parts = [
        np.zeros(round(before * RATE)),
        0.3 * np.sin(2 * np.pi * hertz * time),
        np.zeros(round(after * RATE)),
    ]
    sound = np.concatenate(parts)
    return (sound + 1e-4 * np.random.default_rng(0).standard_normal(len(sound))).astype(np.float32)


def voice(hertz: float, seconds: float = 1.5) -> FloatArray:
    """Vowel-like syllables: harmonics that a vocal tract shapes, four syllables a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = sum(
        np.sin(2 * np.pi * k * hertz * time + k) / (1 + ((k * hertz - 600) / 400) ** 2)
        for k in range(1, int(4000 / hertz))
    )
    return (0.1 * sound * np.abs(np.sin(4 * np.pi * time)) ** 0.5).astype(np.float32)


def stored(path: Path, samples: FloatArray) -> FileSound:
    """Samples in a file, as floating-point numbers so that nothing is rounded."""
    sf.write(path, samples, RATE, subtype="FLOAT")
    return FileSound(path)


def entry(
    id: str,
    sound: Sound,
    taxa: Sequence[Taxon] = (),
    *,
    split: str = "train",
    source: str = "own",
    background: Sequence[Taxon] = (),
    **known: object,
) -> Entry:
    """A recording as a library has it; `known` are fields of `Recording`."""
    samples = sound.read()
    recording = Recording(
        id=id,
        source=source,
        sound=sound,
        file_name=f"{id}.wav",
        license="CC0-1.0",
        species=tuple(taxon.scientific_name for taxon in taxa),
        **known,  # type: ignore[arg-type]
    )
    group = f"{source}:{recording.group or id}"
    duration = len(samples) / RATE
    return Entry(
        recording, tuple(taxa), tuple(background), split, "seen", group, Activity.of(samples), duration
    )


def fauna_taxon(index: int) -> Taxon:
    """The taxon of an invented species."""
    species = SPECIES[index]
    return Taxon(
        species.scientific_name,
        species.common_name,
        species.genus,
        species.family,
        species.order,
        species.class_name,
        species.phylum,
    )


def invented(
    index: int,
    individual: int = 0,
    *,
    call_type: CallType = "call",
    life_stage: LifeStage = "adult",
    split: str = "train",
) -> Entry:
    """One rendition by an individual of an invented species."""
    return entry(
        f"{index}-{individual}-{call_type}-{life_stage}",
        FaunaSound(index, individual, call_type, life_stage, 0),
        (fauna_taxon(index),),
        split=split,
        source=FAUNA,
        call_types=(call_type,),
        life_stage=life_stage,
        count=1,
        group=f"{index}-{individual}",
    )


def noise(weather: Weather, seed: int = 0, *, split: str = "train") -> Entry:
    """Eight seconds of background."""
    sound = NoiseSound(weather, seed)
    return entry(
        f"{weather}-{seed}-{split}", sound, split=split, source="noise", kind="noise", labels=(weather,)
    )


def library(folder: Path, entries: Iterable[Entry], name: str = "library") -> Library:
    """The entries as a library."""
    rows = list(entries)
    taxa = list(dict.fromkeys(taxon for row in rows for taxon in row.all_taxa))
    write_library(folder / f"{name}.arrow", rows, taxa)
    return Library(folder / f"{name}.arrow")


def species(family: int, genus: int, number: int) -> Taxon:
    """A made-up species, placed in a family and a genus; families of two genera of two species, say."""
    return Taxon(
        f"Genus{family}{'ab'[genus]} species{number}",
        f"Bird {family}{'ab'[genus]}{number}",
        f"Genus{family}{'ab'[genus]}",
        f"Family{family}idae",
        "Passeriformes",
        "Aves",
        "Chordata",
    )


def band_level(samples: npt.NDArray[np.floating], hertz: float) -> float:
    """Root mean square within 100 Hz of a frequency."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    inside = np.abs(frequency - hertz) < 100
    return float(np.sqrt(2 * np.sum(np.abs(spectrum[inside]) ** 2)) / len(samples))


def first_heard(samples: FloatArray, hertz: float) -> float:
    """Second at which a tone is first as strong as half of its loudest, in steps of 0.01 s."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 320)[::160]
    turning = np.exp(-2j * np.pi * hertz * np.arange(320) / RATE) * np.hanning(320)
    strength = np.abs(frames @ turning)
    return float((strength > strength.max() / 2).argmax() * 160 / RATE)
