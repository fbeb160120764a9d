"""The models that go by a name. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

OFFICIAL_MODEL = "EarthSpeciesProject/NatureLM-audio"
DEFAULT_MODEL = "mini"
_CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"


@dataclass(frozen=True)
class BuiltInModel:
    """A checkpoint that ships with this package."""

    name: str
    folder: Path
    language_model: str
    summary: str


BUILT_IN_MODELS: Mapping[str, BuiltInModel] = MappingProxyType(
    {
        "mini": BuiltInModel(
            "mini",
            _CHECKPOINTS / "mini",
            "smollm2-135m-instruct",
            "a small model of all tasks, taught on made sounds and few real ones, for trying things out",
        )
    }
)
