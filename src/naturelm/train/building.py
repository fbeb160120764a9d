"""The model that a run trains, from its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from naturelm.errors import CheckpointError
from naturelm.model.building import new_model
from naturelm.model.configuration import BeatsConfig, NatureLMProjectorConfig
from naturelm.model.loading import load_model, load_processor
from naturelm.model.modeling import NatureLMForConditionalGeneration, add_lora
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.checkpoints import PHASES, newest_checkpoint
from naturelm.train.options import LoraOptions, ModelOptions, TrainError


@dataclass(frozen=True)
class Built:
    """A model, its processor, and whether its audio side has learnt nothing yet."""

    model: NatureLMForConditionalGeneration
    processor: NatureLMProcessor
    untrained_ear: bool


def build_model(options: ModelOptions) -> Built:
    """Open the model to start from, or make a new one. CheckpointError or TrainError if that cannot be."""
    if options.start is not None:
        folder = started_from(options.start)
        model, processor = load_model(folder), load_processor(folder)
        if model.config.lora is None:
            model.config.lora = _lora(options.lora)
            model.language_model = add_lora(model.language_model, model.config.lora)
        for name, parameter in model.language_model.named_parameters():
            parameter.requires_grad = ".lora_" in name
        return Built(model, processor, untrained_ear=False)
    given = {
        "prompt_template": options.prompt_template,
        "end_of_answer": options.end_of_answer,
        "add_bos": options.add_bos,
    }
    try:
        model, processor = new_model(
            options.llm,
            audio_config=_ear_config(options.audio),
            projector_config=NatureLMProjectorConfig(
                **_known(NatureLMProjectorConfig, "projector", options.projector)
            ),
            lora=_lora(options.lora),
            clip_seconds=options.clip_seconds,
            max_clip_seconds=options.max_clip_seconds,
            pad_to_clip=options.pad_to_clip,
            **{name: value for name, value in given.items() if value is not None},
        )
    except (ValueError, TypeError) as error:
        raise TrainError(f"model: {error}") from error
    if options.ear_weights is not None:
        from naturelm.model.loading import load_beats

        try:
            model.ear.load_state_dict(load_beats(options.ear_weights).state_dict())
        except RuntimeError as error:
            raise TrainError(
                f"model.ear_weights: {options.ear_weights} is of another geometry than model.audio; leave model.audio out"
            ) from error
    has_weights = next(model.ear.parameters(), None) is not None
    return Built(model, processor, untrained_ear=has_weights and options.ear_weights is None)


def started_from(start: str) -> str | Path:
    """Where the weights of `model.start` are: of a run its final model, or else its newest checkpoint."""
    folder = Path(start)
    if (folder / "run.json").exists():
        if (folder / "model" / "config.json").exists():
            return folder / "model"
        newest = newest_checkpoint(folder)
        if newest is None or newest.phase != PHASES[1]:
            raise CheckpointError(f"{folder}: a run that has not come to its main phase; let it train first")
        return newest.folder
    return start


def _lora(options: LoraOptions) -> dict[str, Any]:
    return {
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(options.targets),
    }


def _ear_config(fields: dict[str, Any]) -> PreTrainedConfig:
    fields = dict(fields)
    model_type = fields.pop("model_type", BeatsConfig.model_type)
    try:
        kind = type(AutoConfig.for_model(model_type))
    except ValueError as error:
        raise TrainError(f"model.audio.model_type: no ear is called {model_type!r}") from error
    return kind(**_known(kind, "audio", fields))


def _known(kind: type[PreTrainedConfig], section: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, if the configuration has them: it would take a misspelt one without a word."""
    known = [name for name in vars(kind()) if not name.startswith("_")]
    for name in fields:
        if name not in known:
            raise TrainError(
                f"model.{section}.{name}: there is no such field; there are: {', '.join(sorted(known))}"
            )
    return fields
