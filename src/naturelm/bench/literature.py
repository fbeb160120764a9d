"""Figures that others published, each with its source: the one table of them is `published_figures.json`."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedFigure:
    """One score of one system, as it stands in a publication."""

    dataset_name: str
    metric: str
    """Under the name that it has here."""
    value: float
    system: str
    setting: str
    """How the system was asked, in a few words."""
    source: str
    url: str


@cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All that are committed."""
    text = files("naturelm.bench").joinpath("published_figures.json").read_text(encoding="utf-8")
    return tuple(PublishedFigure(**fields) for fields in json.loads(text))
