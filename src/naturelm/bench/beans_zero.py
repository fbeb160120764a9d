"""What BEANS-Zero consists of: its 22 components with their rows, rates, windows and labels, as published."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

HUB_ID = "EarthSpeciesProject/BEANS-Zero"
"""Where it is published, on the Hugging Face hub."""
SPLIT = "test"


@dataclass(frozen=True)
class ComponentFacts:
    """One component as it is published."""

    name: str
    task: str
    """`classification`, `detection` or `captioning`."""
    rows: int
    source: str
    license: str
    sample_rate: int
    """Hz."""
    longest: float | None
    """Seconds that a clip is cut to; None where it is cut into windows."""
    window: float | None
    """Seconds; None where a clip is taken whole."""
    hop: float | None
    unknown: str | None
    """The label of what is in none of the others."""
    labels: tuple[str, ...]
    """The closed set; empty for captions."""


@cache
def beans_zero_components() -> Mapping[str, ComponentFacts]:
    """All components by name, in their published order."""
    text = files("naturelm.bench").joinpath("beans_zero.json").read_text(encoding="utf-8")
    return {
        fields["name"]: ComponentFacts(**{**fields, "labels": tuple(fields["labels"])})
        for fields in json.loads(text)
    }
