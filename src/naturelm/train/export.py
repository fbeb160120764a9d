"""A trained model on its own, to use and to publish: in our layout or the official one, with a model card."""

import copy
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from naturelm.model import official
from naturelm.model.configuration import NatureLMConfig
from naturelm.model.embedded import EMBEDDED_LLMS
from naturelm.model.loading import Checkpoint, load_model, load_processor, open_checkpoint, read_tensors
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.train.card import ModelFacts, count_parameters, model_card, require_license
from naturelm.train.lineage import find_model, read_lineage
from naturelm.train.options import TrainError

Layout = Literal["naturelm", "official"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = "model.safetensors"
# No part in what the model computes: bookkeeping of transformers, and where text ends.
_NOT_COMPARED = {
    "_name_or_path", "architectures", "dtype", "transformers_version", "use_cache", "bos_token_id", "eos_token_id",
    "pad_token_id", "audio_token_id", "text_model",
}  # fmt: skip
_QFORMER_ONLY = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "layer_norm_eps",
}


def export_run(run: Path, to: Layout, out: Path, *, license: str | None = None) -> Path:
    """Write the model of a run to a folder of its own, whole or not at all, and return that folder.

    run: a run folder (its final model, else its newest checkpoint of answers), or a folder that holds a
        model in our layout.
    to: "naturelm" writes our layout, with float32 weights stored as float16; "official" the official
        layout, with weights as they are.
    out: a folder that does not exist or is empty.
    license: identifier of the model's licence for the card, such as `apache-2.0`; None leaves it open.

    A language model that lies in a local folder is exported with our layout, since no one else has it
    under that name; one from the hub or embedded is named and left out where the run left it out.
    Raises TrainError and CheckpointError.
    """
    if to not in _WRITERS:
        raise TrainError(f"no layout {to!r}; there are: {', '.join(_WRITERS)}")
    require_license(license)
    folder = find_model(run)
    stages = read_lineage(folder)
    _require_unused(out)
    found = open_checkpoint(folder)
    if official.is_official_config(found.fields):
        raise TrainError(f"{folder}: in the official layout already; export works from ours")
    # The whole model is made once, so that nothing is exported that does not load; half is enough for that.
    model = load_model(folder, checkpoint=found, dtype=torch.float16)
    tensors = read_tensors(folder)
    if to == "naturelm" and found.config.text_model is not None and not _is_public(found.config.text_model):
        found, tensors = _with_own_language_model(found, model, tensors)
    with _whole_folder(out) as staged:
        _WRITERS[to](staged, found, tensors)
        # safetensors writes for its owner alone; whoever may read the configuration may read these as well.
        shutil.copymode(staged / "config.json", staged / _WEIGHTS)
        facts = ModelFacts(
            config=found.config,
            parameters=count_parameters(model),
            layout=to,
            stored=(staged / _WEIGHTS).stat().st_size,
            with_language_model=_hold_language_model(tensors),
        )
        name = stages[-1].options.name if stages else out.resolve().name
        card = model_card(facts, stages, name=name, license=license)
        (staged / "README.md").write_text(card, encoding="utf-8")
    return out


# --- our layout --------------------------------------------------------------------------------


def _write_naturelm(staged: Path, found: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    config = copy.deepcopy(found.config)
    config.architectures = [NatureLMForConditionalGeneration.__name__]
    # Where the language model lay on this machine.
    config.text_config._name_or_path = ""
    if config.text_model is None:
        load_processor(found.folder, checkpoint=found).save_pretrained(staged)
    config.save_pretrained(staged)
    _generation(found).save_pretrained(staged)
    _save({name: _halved(name, tensor) for name, tensor in tensors.items()}, staged)


def _with_own_language_model(
    found: Checkpoint, model: NatureLMForConditionalGeneration, tensors: dict[str, Tensor]
) -> tuple[Checkpoint, dict[str, Tensor]]:
    """The checkpoint with the weights and the tokenizer of its language model, named no more."""
    config = copy.deepcopy(found.config)
    config.text_model = None
    places: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        places.setdefault(id(tensor), name)  # a tensor that two modules share is stored once
    whole = {name: state[name].detach() for name in places.values()}
    return replace(found, config=config), {**whole, **tensors}


def _is_public(text_model: str) -> bool:
    """Whether others find a language model under this name: embedded, or on the hub."""
    if text_model in EMBEDDED_LLMS:
        return True
    return _HUB_ID.fullmatch(text_model) is not None and not Path(text_model).is_dir()


def _generation(found: Checkpoint) -> GenerationConfig:
    if (found.folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(found.folder)
    return GenerationConfig.from_model_config(found.config.text_config)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """float32 as float16, anything else as it is. TrainError for what float16 cannot hold."""
    half = tensor.half() if tensor.dtype in (torch.float32, torch.float64) else tensor
    _require_finite(name, half)
    return half


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not math.isfinite(
        tensor.float().abs().max().item() if tensor.numel() else 0.0
    ):
        raise TrainError(
            f"tensor {name}: not finite, or too large for the numbers that it is stored in; export an earlier "
            "checkpoint"
        )


# --- official layout ---------------------------------------------------------------------------


def _write_official(staged: Path, found: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    fields = official.official_config(found.config)
    (staged / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    misfits = _misfits(staged, fields, found, tensors)
    if misfits:
        raise TrainError(
            f"{found.folder}: does not fit the official layout: {'; '.join(misfits)}; export it with --to naturelm"
        )
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    theirs = official.official_weights(
        tensors, lora=found.config.lora is not None, layers=found.config.audio_config.num_hidden_layers
    )
    _save(theirs, staged)


def _misfits(
    staged: Path, fields: Mapping[str, Any], found: Checkpoint, tensors: Mapping[str, Tensor]
) -> list[str]:
    """What differs between a model and its official configuration when that is read again."""
    ours = found.config
    read = official.translate_config(fields, copy.deepcopy(ours.text_config), ours.text_config.vocab_size)
    if ours.audio_config.model_type != read.audio_config.model_type:
        ear = [
            _difference("audio_config.model_type", ours.audio_config.model_type, read.audio_config.model_type)
        ]
    else:
        ear = _differences(ours.audio_config.to_dict(), read.audio_config.to_dict(), "audio_config.")
    # Dropout of the bridge matters only to training, and what hints were taught only with hints, which differ too.
    unused = {"dropout", "taught_labels", "hinted_words", "hint_titles"} | (
        _QFORMER_ONLY if ours.projector_config.kind == "mean" else set()
    )
    projector = _differences(
        ours.projector_config.to_dict(), read.projector_config.to_dict(), "projector_config.", unused
    )
    parts = {"audio_config", "projector_config", "text_config"}
    joint = _differences(_comparable(ours), _comparable(read), "", parts)
    return ear + projector + joint + _text_misfits(staged, found, tensors)


def _text_misfits(staged: Path, found: Checkpoint, tensors: Mapping[str, Tensor]) -> list[str]:
    """What differs between the language model and the one that is read through `llama_path`."""
    if found.config.text_model is None:
        return ["text_model is not set (official: llama_path has to name the language model)"]
    again = open_checkpoint(staged)
    ours, theirs = found.config.text_config, again.config.text_config
    misfits = []
    # The official model adds a pad token where there is none; weights that are not stored get its row.
    if _hold_language_model(tensors) or theirs.vocab_size < ours.vocab_size:
        misfits += _differences(
            {"vocab_size": ours.vocab_size}, {"vocab_size": theirs.vocab_size}, "text_config."
        )
    misfits += _differences(ours.to_dict(), theirs.to_dict(), "text_config.", {"vocab_size"})
    vocabulary, read = found.tokenizer.get_vocab(), again.tokenizer.get_vocab()
    if any(read.get(token) != number for token, number in vocabulary.items()):
        misfits.append("the tokenizer (official: the language model's own)")
    return misfits


def _comparable(config: NatureLMConfig) -> dict[str, Any]:
    """The fields with those of LoRA beside them, its layers in one order."""
    lora = dict(config.lora or {})
    if "target_modules" in lora:
        lora["target_modules"] = sorted(lora["target_modules"])
    fields = {**config.to_dict(), "lora": config.lora is not None}
    return {**fields, **{f"lora.{key}": value for key, value in lora.items()}}


def _differences(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    prefix: str,
    unused: frozenset[str] | set[str] = frozenset(),
) -> list[str]:
    names = sorted((ours.keys() | theirs.keys()) - _NOT_COMPARED - unused)
    return [
        _difference(prefix + name, ours.get(name), theirs.get(name))
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _difference(name: str, ours: object, theirs: object) -> str:
    return f"{name} is {ours!r} (official: {theirs!r})"


_WRITERS: Mapping[str, Callable[[Path, Checkpoint, Mapping[str, Tensor]], None]] = MappingProxyType(
    {"naturelm": _write_naturelm, "official": _write_official}
)


# --- folders and files -----------------------------------------------------------------------------------


def _hold_language_model(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the language model's own weights are among tensors, and not its adapter alone."""
    return any(name.startswith("language_model.") and ".lora_" not in name for name in tensors)


def _save(tensors: Mapping[str, Tensor], staged: Path) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, staged / _WEIGHTS, metadata={"format": "pt"})


def _require_unused(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainError(f"{out}: exists and is not an empty folder; give another one with --out")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when all is written, and goes when something fails."""
    place = out.resolve()
    staged = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        staged.mkdir(parents=True)
        yield staged
        for file in staged.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        staged.rename(place)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{out}: cannot be written ({error}); make room, or give another folder") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
