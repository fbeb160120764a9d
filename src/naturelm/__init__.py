"""NatureLM-audio: ask recordings of nature questions in plain words.

>>> from naturelm import NatureLM
>>> model = NatureLM.from_pretrained("mini")
>>> print(model.ask("examples/recordings/owl.flac", "Which animal is this?").text)

Importing this package loads neither torch nor transformers; the first use of a name that needs
them does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from naturelm.errors import AudioError, CheckpointError, NatureLMError, QuestionError

if TYPE_CHECKING:
    from naturelm.answer.engine import NatureLM
    from naturelm.answer.results import Answer, Choice, Clip, Failure, GenerationOptions, Query, Seconds
    from naturelm.model.beats import BeatsModel
    from naturelm.model.building import new_model
    from naturelm.model.configuration import BeatsConfig, NatureLMConfig, NatureLMProjectorConfig
    from naturelm.model.features import NatureLMFeatureExtractor
    from naturelm.model.modeling import NatureLMForConditionalGeneration
    from naturelm.model.processing import NatureLMProcessor

__version__ = "0.1.0"

_HOMES = {
    "NatureLM": "naturelm.answer.engine",
    "Answer": "naturelm.answer.results",
    "Choice": "naturelm.answer.results",
    "Clip": "naturelm.answer.results",
    "Failure": "naturelm.answer.results",
    "GenerationOptions": "naturelm.answer.results",
    "Query": "naturelm.answer.results",
    "Seconds": "naturelm.answer.results",
    "BeatsConfig": "naturelm.model.configuration",
    "BeatsModel": "naturelm.model.beats",
    "NatureLMConfig": "naturelm.model.configuration",
    "NatureLMProjectorConfig": "naturelm.model.configuration",
    "NatureLMFeatureExtractor": "naturelm.model.features",
    "NatureLMForConditionalGeneration": "naturelm.model.modeling",
    "NatureLMProcessor": "naturelm.model.processing",
    "new_model": "naturelm.model.building",
}

__all__ = [
    "Answer",
    "AudioError",
    "BeatsConfig",
    "BeatsModel",
    "CheckpointError",
    "Choice",
    "Clip",
    "Failure",
    "GenerationOptions",
    "NatureLM",
    "NatureLMConfig",
    "NatureLMError",
    "NatureLMFeatureExtractor",
    "NatureLMForConditionalGeneration",
    "NatureLMProcessor",
    "NatureLMProjectorConfig",
    "Query",
    "QuestionError",
    "Seconds",
    "new_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
