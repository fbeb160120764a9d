"""Other people's models, opened from a folder through transformers' own classes.

A folder is input from outside: weights are read from safetensors alone, no code that comes with it is run, and
nothing is fetched.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from naturelm.bench.models.deciding import one_line
from naturelm.errors import CheckpointError
from naturelm.model.loading import model_revision, quiet_unless_watched, safetensors_files
from naturelm.model.official import shorten


def device_of(name: str | None) -> torch.device:
    """The device that is named; the GPU if there is one when None. Raises CheckpointError for no device."""
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise CheckpointError(f"{name} is no device; give cpu, cuda, cuda:1 or mps") from error


def large_dtype(device: torch.device) -> torch.dtype:
    """The dtype of a large model: bfloat16 on a GPU; float32 on a CPU, where bfloat16 is slower."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def checked_folder(folder: Path | str, model_type: str, whose: str) -> Path:
    """The folder, if its `config.json` is of that model type and its weights are safetensors.

    whose: the model, as messages call it. Raises CheckpointError.
    """
    folder = Path(folder)
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{folder}: no config.json there; give the folder of a downloaded {whose} checkpoint"
        )
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
        found = fields["model_type"]
    except (ValueError, OSError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{config}: names no model_type; download the {whose} checkpoint again"
        ) from error
    if found != model_type:
        raise CheckpointError(
            f"{folder}: config.json is of a {one_line(found, 40)!r}, not of {whose}, which is a {model_type!r}"
        )
    safetensors_files(folder)
    return folder


def open_model(
    cls: Any, folder: Path | str, whose: str, *, device: torch.device, dtype: torch.dtype = torch.float32
) -> Any:
    """The model of a folder, in evaluation mode, on its device.

    cls: transformers' class for it. Raises CheckpointError for another model type, pickled weights, tensors that
    are missing or of another shape, and whatever else transformers cannot read.
    """
    folder = checked_folder(folder, cls.config_class.model_type, whose)
    with blaming(folder, whose), quiet_unless_watched():
        model, found = cls.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
        if found["missing_keys"]:
            raise CheckpointError(
                f"{folder}: tensors missing {shorten(found['missing_keys'])}; the download broke off, or "
                "config.json and weights do not belong together"
            )
        return model.to(device).eval()


def open_processor(cls: Any, folder: Path | str, whose: str) -> Any:
    """The processor of a folder. Raises CheckpointError for a missing or damaged one."""
    with blaming(Path(folder), whose), quiet_unless_watched():
        # Said outright: left open, transformers would ask at the terminal whether to run the folder's code.
        return cls.from_pretrained(Path(folder), local_files_only=True, trust_remote_code=False)


def revision_of(folder: Path | str) -> str:
    """Twelve hex digits that name the folder's content."""
    return model_revision(Path(folder))


@contextmanager
def blaming(folder: Path, whose: str) -> Iterator[None]:
    """What transformers raises about a folder, as a CheckpointError that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{folder}: not a whole {whose} checkpoint ({type(error).__name__}: {one_line(error)}); download it again"
        ) from error
