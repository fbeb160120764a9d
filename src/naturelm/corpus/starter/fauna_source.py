"""The synthetic fauna as a source: renditions of some of its species by several individuals each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from naturelm.audio import SAMPLE_RATE
from naturelm.corpus.cast import FAUNA
from naturelm.corpus.fauna import SPECIES, CallType, LifeStage, vocalise
from naturelm.corpus.recordings import Failure, FloatArray, Recording

# What each individual is recorded doing. The first four train; the others are heard in held-out clips.
_SESSIONS: tuple[tuple[tuple[CallType, LifeStage], ...], ...] = (
    (("song", "adult"), ("call", "adult")),
    (("call", "adult"), ("alarm call", "adult")),
    (("song", "adult"), ("call", "juvenile")),
    (("call", "adult"), ("flight call", "adult"), ("begging call", "nestling")),
    (("song", "adult"), ("call", "adult"), ("song", "juvenile")),
    (("call", "adult"), ("alarm call", "adult"), ("begging call", "nestling")),
    (("song", "adult"), ("call", "juvenile"), ("flight call", "adult")),
    (("call", "adult"), ("begging call", "nestling"), ("flight call", "juvenile")),
)
_TRAINING = 4


@dataclass(frozen=True)
class FaunaSound:
    """One rendition, synthesised whenever it is read."""

    species: int
    """Place in `fauna.SPECIES`."""
    individual: int
    call_type: CallType
    life_stage: LifeStage
    seed: int
    generated: ClassVar[bool] = True

    def read(self, start: float = 0.0, end: float | None = None) -> FloatArray:
        """See `recordings.Sound.read`."""
        call = vocalise(
            SPECIES[self.species],
            individual=self.individual,
            call_type=self.call_type,
            life_stage=self.life_stage,
            seed=self.seed,
        )
        last = None if end is None else round(end * SAMPLE_RATE)
        return call.samples[round(start * SAMPLE_RATE) : last]


@dataclass(frozen=True)
class FaunaSource:
    """Recordings of so many of the invented species, drawn by the seed."""

    species: int
    seed: int
    held_back: float = 0.25
    """Share of the species of which four more individuals are recorded, for held-out clips alone."""

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `sources.ArchiveSource`."""
        rng = np.random.default_rng([self.seed, 0xFA])
        chosen = np.sort(rng.choice(len(SPECIES), size=self.species, replace=False))
        tested = rng.random(self.species) < self.held_back
        validated = rng.random(self.species) < 0.04
        for index, with_test, with_validation in zip(chosen, tested, validated, strict=True):
            for individual, session in enumerate(_SESSIONS if with_test else _SESSIONS[:_TRAINING]):
                split = "test" if individual >= _TRAINING else "train"
                if with_validation and individual == _TRAINING - 1:
                    split = "validation"
                for take, (call_type, life_stage) in enumerate(session):
                    yield _recording(int(index), individual, call_type, life_stage, take, split)


def _recording(
    index: int, individual: int, call_type: CallType, life_stage: LifeStage, take: int, split: str
) -> Recording:
    name = f"{index:04d}-{individual}-{take}"
    return Recording(
        id=name,
        source=FAUNA,
        sound=FaunaSound(index, individual, call_type, life_stage, take),
        file_name=f"{name}.generated",
        license="CC0-1.0",
        species=(SPECIES[index].scientific_name,),
        common_names=(SPECIES[index].common_name,),
        call_types=(call_type,),
        life_stage=life_stage,
        count=1,
        group=f"{index:04d}-{individual}",
        split=split,
    )
