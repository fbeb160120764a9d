"""Tasks: kinds of question that pairs are made for. A new one is a class (see `base.Task`) and a line here."""

from naturelm.corpus.tasks.base import Draft, Studio, Task
from naturelm.corpus.tasks.captions import Caption
from naturelm.corpus.tasks.detection import Detection, DetectionOptions, Several
from naturelm.corpus.tasks.facts import CALL_TYPE, COUNT, LIFE_STAGE, ONE_OR_MORE, SEX
from naturelm.corpus.tasks.naming import FAMILY, GENUS, SPECIES_COMMON, SPECIES_SCIENTIFIC, SPECIES_TAXONOMIC
from naturelm.corpus.tasks.passthrough import Own
from naturelm.corpus.tasks.sounds import (
    Environment,
    Instrument,
    NotePitch,
    SpeakerCount,
    SpeakerPitch,
    SpeakerSex,
    Transcript,
)

TASKS: tuple[Task, ...] = (
    SPECIES_COMMON,
    SPECIES_SCIENTIFIC,
    SPECIES_TAXONOMIC,
    GENUS,
    FAMILY,
    Detection(),
    DetectionOptions(),
    Several(),
    Caption(),
    LIFE_STAGE,
    CALL_TYPE,
    SEX,
    COUNT,
    ONE_OR_MORE,
    Environment(),
    SpeakerCount(),
    SpeakerSex(),
    SpeakerPitch(),
    Transcript(),
    Instrument(),
    NotePitch(),
    Own(),
)
"""All of them, in the order in which tables list them."""

__all__ = ["TASKS", "Draft", "Studio", "Task"]
