"""Checkpoints of every layout to a model and its processor.

A source is a built-in name, a folder or a hub id, and its `config.json` says which layout it
is in. Weights are read from safetensors alone; the one exception, the original BEATs `.pt`
files, is read with `weights_only=True`, which runs no code.
"""

import copy
import hashlib
import json
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from naturelm.errors import CheckpointError
from naturelm.model import official
from naturelm.model.beats import BeatsModel
from naturelm.model.configuration import NatureLMConfig
from naturelm.model.embedded import EMBEDDED_LLMS, ensure_embedded_llm
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.official import shorten
from naturelm.model.processing import NatureLMProcessor
from naturelm.model.registry import BUILT_IN_MODELS, OFFICIAL_MODEL

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NEEDED_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]
# Beyond this many bytes a revision is taken from the tensors' table instead of their contents.
_HASH_WHOLE_BELOW = 64 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint found and read as far as its configuration.

    folder: where its files are; fields: its `config.json`; llm: folder of the language model's
    configuration and tokenizer, and of its weights where the checkpoint leaves them out.
    """

    folder: Path
    fields: dict[str, Any]
    config: NatureLMConfig
    tokenizer: Any
    llm: Path | None


def open_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    llm: str | Path | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Find a checkpoint and read its configuration and tokenizer.

    source: built-in name, folder or hub id. llm: takes the place of the language model that the
    checkpoint names: an embedded name, a folder or a hub id. Raises CheckpointError.
    """
    folder = resolve_folder(source, revision=revision, local_files_only=local_files_only)
    fields = _read_config(folder)
    if official.is_official_config(fields):
        named = str(llm or fields.get("llama_path") or "")
        if not named:
            raise CheckpointError(f"{folder}: config.json names no llama_path; say which with llm=")
        llm_folder = resolve_llm(named, local_files_only=local_files_only)
        tokenizer = _load_tokenizer(llm_folder)
        if tokenizer.pad_token is None:
            tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        text_config = _load_text_config(llm_folder)
        vocab_size = max(len(tokenizer), text_config.vocab_size)
        with _blaming(folder, "config.json"):
            config = official.translate_config(fields, text_config, vocab_size)
        return Checkpoint(folder, fields, config, tokenizer, llm_folder)
    if fields.get("model_type") != NatureLMConfig.model_type:
        raise CheckpointError(
            f"{folder}: config.json is of a {fields.get('model_type', 'model of unknown type')!r}, not of NatureLM-audio; "
            "give a NatureLM-audio checkpoint in our layout or the official one"
        )
    if fields.get("text_config") is None:
        raise CheckpointError(
            f"{folder}: config.json has no text_config; save or download the checkpoint again"
        )
    with _blaming(folder, "config.json"):
        config = NatureLMConfig(
            **{k: v for k, v in fields.items() if k not in ("model_type", "architectures")}
        )
    named = str(llm or config.text_model or "")
    has_tokenizer = (folder / "tokenizer.json").exists()
    own_llm = resolve_llm(named, local_files_only=local_files_only) if named and not has_tokenizer else None
    if own_llm is None and not has_tokenizer:
        raise CheckpointError(
            f"{folder}: no tokenizer.json, and config.json names no text_model; save the processor too"
        )
    return Checkpoint(folder, fields, config, _load_tokenizer(own_llm or folder), own_llm)


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    llm: str | Path | None = None,
    local_files_only: bool = False,
    checkpoint: Checkpoint | None = None,
    config: NatureLMConfig | None = None,
    **kwargs: Any,
) -> NatureLMForConditionalGeneration:
    """The joint model of a checkpoint in our layout or the official one.

    source, revision, llm, local_files_only: as in `open_checkpoint`. config: takes the place of
    the checkpoint's own. kwargs: `dtype`, `device_map`, `attn_implementation` and
    `quantization_config` as in transformers.

    Raises CheckpointError naming missing, extra or misshapen tensors.
    """
    found = checkpoint or open_checkpoint(
        source, revision=revision, llm=llm, local_files_only=local_files_only
    )
    if config is not None:
        found = replace(found, config=config)
    tensors = read_tensors(found.folder)
    if official.is_official_config(found.fields):
        tensors = _naming(found.folder, official.translate_weights, tensors)
    with quiet_unless_watched():
        dtype = kwargs.get("dtype", torch.float32)
        tensors = _with_language_model(tensors, found, llm, local_files_only, dtype)
        with _blaming(found.folder, "config.json"):
            expected = _tensors_of(lambda: NatureLMForConditionalGeneration(copy.deepcopy(found.config)))
        _check_complete(found.folder, expected, tensors)
        model = NatureLMForConditionalGeneration.from_pretrained(
            None, config=found.config, state_dict=tensors, **{"dtype": torch.float32, **kwargs}
        )
    model.name_or_path = str(source)
    _settle_generation(model, found)
    return model.eval()


def load_processor(
    source: str | Path, *, checkpoint: Checkpoint | None = None, **kwargs: Any
) -> NatureLMProcessor:
    """The processor of a checkpoint; arguments as in `open_checkpoint`."""
    found = checkpoint or open_checkpoint(source, **kwargs)
    with _blaming(found.folder, "config.json"):
        return NatureLMProcessor.from_model_config(found.config, found.tokenizer)


def load_beats(path: str | Path) -> BeatsModel:
    """BEATs from an original `.pt` file, a dict with `cfg` and `model`. Raises CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give an original BEATs .pt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, since it holds objects other than tensors and could run code when loaded; "
            "use the file from its authors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable .pt file ({_one_line(error)}); download it again"
        ) from error
    if not (isinstance(content, dict) and isinstance(content.get("model"), dict) and "cfg" in content):
        raise CheckpointError(f"{path}: not an original BEATs checkpoint, which has 'cfg' and 'model'")
    if not all(isinstance(tensor, Tensor) for tensor in content["model"].values()):
        raise CheckpointError(
            f"{path}: its 'model' holds other things than tensors; use the file from its authors"
        )
    with _blaming(path, "cfg"):
        config = official.beats_config(content["cfg"])
        expected = _tensors_of(lambda: BeatsModel(config))
    tensors = _naming(path, official.translate_beats_weights, content["model"])
    _check_complete(path, expected, tensors)
    model = BeatsModel(config)
    model.load_state_dict(tensors)
    return model.eval()


def resolve_folder(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of a built-in name, a folder, or a hub id, which is downloaded. Raises CheckpointError."""
    name = str(source)
    if name in BUILT_IN_MODELS:
        return BUILT_IN_MODELS[name].folder
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{folder}: a file; give the folder with config.json and the safetensors files")
    if not _HUB_ID.fullmatch(name):
        known = ", ".join(BUILT_IN_MODELS)
        raise CheckpointError(
            f"{name}: no such folder; give a folder, a hub id like {OFFICIAL_MODEL}, or one of: {known}"
        )
    return _download(name, revision, local_files_only)


def resolve_llm(name: str, *, local_files_only: bool = False) -> Path:
    """The folder of a language model: an embedded name, a folder or a hub id. Raises CheckpointError."""
    if name in EMBEDDED_LLMS:
        return ensure_embedded_llm(name)
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_ID.fullmatch(name):
        known = ", ".join(EMBEDDED_LLMS)
        raise CheckpointError(
            f"language model {name}: no such folder; give a folder, a hub id, or one of: {known}"
        )
    return _download(name, None, local_files_only)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files, one or sharded. Raises CheckpointError."""
    files = safetensors_files(folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors.update(load_file(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{file}: not a readable safetensors file ({_one_line(error)}); download it again"
            ) from error
    return tensors


def safetensors_files(folder: Path) -> list[Path]:
    """The weight files: those that the index names, or every one there is. Raises CheckpointError."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
            # An index is input from outside: it may name files of its own folder alone.
            files = [folder / Path(name).name for name in sorted(names)]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index}: not a weight index; download it again") from error
        absent = [file.name for file in files if not file.is_file()]
        if absent:
            raise CheckpointError(f"{folder}: missing weight files {shorten(absent)}; download them again")
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise CheckpointError(
                f"{pickles[0]}: refused, since a pickle can run code when it is loaded; convert it to safetensors"
            )
        raise CheckpointError(f"{folder}: no safetensors file; give a folder with the weights")
    return files


def model_revision(folder: Path) -> str:
    """Twelve hex digits that name a checkpoint's content.

    Small checkpoints are hashed whole; of large ones the configuration, the sizes and the table
    of tensors are.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    files = safetensors_files(folder)
    whole = sum(file.stat().st_size for file in files) < _HASH_WHOLE_BELOW
    for file in files:
        with file.open("rb") as stream:
            if whole:
                digest.update(stream.read())
            else:
                (table,) = struct.unpack("<Q", stream.read(8))
                digest.update(stream.read(min(table, _HASH_WHOLE_BELOW)))
                digest.update(str(file.stat().st_size).encode())
    return digest.hexdigest()[:12]


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=_NEEDED_FILES, local_files_only=local_files_only
            )
        )
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is gated: request access on https://huggingface.co/{name}, then log in with `hf auth login` "
            "or set HF_TOKEN; or give a folder that holds a copy"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: no such model on the hub, or it is private; check the name, or log in with `hf auth login`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{name} is not in the local cache and the hub could not be reached; connect once, or give a folder that holds a "
            f"copy (if it is gated, request access first on https://huggingface.co/{name} and log in with `hf auth login`)"
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: no config.json; give a NatureLM-audio checkpoint's folder"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not readable JSON ({_one_line(error)}); download it again") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: not a JSON object; download it again")
    return fields


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: no usable tokenizer ({_one_line(error)})") from error


def _load_text_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder}: no usable language-model config.json ({_one_line(error)})"
        ) from error


def _with_language_model(
    tensors: dict[str, Tensor],
    found: Checkpoint,
    llm: str | Path | None,
    local_files_only: bool,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The tensors with the language model's own added where the checkpoint leaves them out."""
    if any(name.startswith("language_model.") and ".lora_" not in name for name in tensors):
        return tensors
    named = str(llm or found.config.text_model or "")
    if not named:
        raise CheckpointError(
            f"{found.folder}: the language model's weights are missing, and config.json names no text_model"
        )
    folder = found.llm or resolve_llm(named, local_files_only=local_files_only)
    try:
        language_model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: no usable language-model weights ({_one_line(error)})") from error
    rows = language_model.get_input_embeddings().weight.shape[0]
    if rows < found.config.text_config.vocab_size:
        # The official release adds a pad token at load time; its row is never read.
        language_model.resize_token_embeddings(found.config.text_config.vocab_size, mean_resizing=False)
    targets = tuple(found.config.lora["target_modules"]) if found.config.lora else ()
    base = {}
    for name, tensor in language_model.state_dict().items():
        module, _, leaf = name.rpartition(".")
        wrapped = module.rpartition(".")[2] in targets
        base[f"language_model.{module}.base_layer.{leaf}" if wrapped else f"language_model.{name}"] = tensor
    return {**base, **tensors}


def _naming(place: Path, translate: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        return translate(tensors)
    except CheckpointError as error:
        raise CheckpointError(
            f"{place}: {error}; it was made by another version or for another model"
        ) from error


def _tensors_of(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """A model's tensors without storage, so that a false configuration allocates nothing."""
    with torch.device("meta"):
        return dict(build().state_dict(keep_vars=True))


def _check_complete(place: Path, expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    # A tensor that two modules share is stored once, under either name.
    present = {id(expected[name]) for name in expected.keys() & tensors.keys()}
    missing = [name for name, tensor in expected.items() if name not in tensors and id(tensor) not in present]
    wrong = [n for n in expected.keys() & tensors.keys() if tensors[n].shape != expected[n].shape]
    _report(place, missing, list(tensors.keys() - expected.keys()), wrong)


def _report(place: Path, missing: list[str], extra: list[str], misshapen: list[str]) -> None:
    kinds = (("missing", missing), ("extra", extra), ("of another shape", misshapen))
    faults = [f"{word} {shorten(names)}" for word, names in kinds if names]
    if faults:
        raise CheckpointError(
            f"{place}: tensors {'; '.join(faults)}; config.json and weights do not belong together, or the download broke off"
        )


def _settle_generation(model: NatureLMForConditionalGeneration, found: Checkpoint) -> None:
    """Greedy, and stopped by every end token that the language model or the checkpoint knows."""
    ends = set(found.tokenizer(found.config.end_of_answer, add_special_tokens=False)["input_ids"][-1:])
    sources = [found.config.text_config]
    if found.llm is not None and (found.llm / "generation_config.json").exists():
        sources.append(GenerationConfig.from_pretrained(found.llm))
    for source in sources:
        eos = source.eos_token_id
        ends |= set(eos) if isinstance(eos, list) else set() if eos is None else {eos}
    pad = found.tokenizer.pad_token_id
    settled = GenerationConfig(
        eos_token_id=sorted(ends),
        pad_token_id=pad if pad is not None else min(ends),
        bos_token_id=found.tokenizer.bos_token_id,
        do_sample=False,
    )
    model.generation_config = settled
    # The language model generates for us once the audio is in its cache.
    model.language_model.generation_config = settled


@contextmanager
def quiet_unless_watched() -> Iterator[None]:
    """Progress bars and the report of odd tensors only on a terminal; we say ourselves what is wrong."""
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    try:
        if not sys.stderr.isatty():
            transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _blaming(place: Path, part: str) -> Iterator[None]:
    """A configuration is input from outside: whatever fails while it becomes objects is its fault."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{place}: {part} cannot be used ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
