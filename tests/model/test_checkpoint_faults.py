"""Every fault of a checkpoint is one CheckpointError: one line that names the file or folder and the cure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from official_folder import official_like_model, official_tensors, save_llm, save_official
from safetensors.torch import load_file, save_file

from naturelm.errors import CheckpointError
from naturelm.model import loading
from naturelm.model.loading import load_model, load_processor
from tiny import save_tiny_naturelm


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint in our layout."""
    return save_tiny_naturelm(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def ours(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "ours")


@pytest.fixture(scope="module")
def saved_official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved_official")
    llm = save_llm(place / "llm", weights=False)
    return save_official(place / "x", llm, official_tensors(official_like_model()))


@pytest.fixture
def official(saved_official: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved_official, tmp_path / "official")


def fault_of(source: Path | str, load: Callable[..., Any] = load_model, **kwargs: Any) -> str:
    """The message of the error, which is a line that names the source."""
    with pytest.raises(CheckpointError) as caught:
        load(source, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message


def change_config(folder: Path, *path: str, to: Any) -> None:
    """Set one entry of config.json."""
    fields = json.loads((folder / "config.json").read_text())
    inner = fields
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    (folder / "config.json").write_text(json.dumps(fields))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# --- tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "missing", "shown"),
    [
        ("ours", "projector.linear.bias", "projector.linear.bias"),
        ("official", "audio_llama_proj.bias", "projector.linear.bias"),
        ("official", "beats.encoder.pos_conv.0.weight_g", "ear.position_conv.weight"),
    ],
)
def test_missing_tensor(request: pytest.FixtureRequest, layout: str, missing: str, shown: str) -> None:
    folder = request.getfixturevalue(layout)
    change_tensors(folder, lambda tensors: tensors.pop(missing))
    message = fault_of(folder)
    assert f"missing {shown}" in message


@pytest.mark.parametrize(
    ("layout", "shown"), [("ours", "extra surplus.weight"), ("official", "surplus.weight")]
)
def test_extra_tensor(request: pytest.FixtureRequest, layout: str, shown: str) -> None:
    folder = request.getfixturevalue(layout)
    change_tensors(folder, lambda tensors: tensors.update({"surplus.weight": torch.zeros(2)}))
    assert shown in fault_of(folder)


@pytest.mark.parametrize(
    ("layout", "name"), [("ours", "projector.linear.weight"), ("official", "audio_llama_proj.weight")]
)
def test_misshapen_tensor(request: pytest.FixtureRequest, layout: str, name: str) -> None:
    folder = request.getfixturevalue(layout)
    change_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(32, 25)}))
    assert "of another shape projector.linear.weight" in fault_of(folder)


def test_many_missing_tensors_are_counted(ours: Path) -> None:
    change_tensors(ours, lambda tensors: [tensors.pop(name) for name in list(tensors) if "ear." in name])
    message = fault_of(ours)
    assert "more" in message
    assert len(message) < 1000


def test_language_model_left_out_and_not_named(ours: Path) -> None:
    def keep_audio(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("language_model.")]:
            del tensors[name]

    change_tensors(ours, keep_audio)
    assert "text_model" in fault_of(ours)


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [load_model, load_processor])
@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (None, "no config.json"),
        ("{", "not readable JSON"),
        ("\x00\xff", "not readable JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"model_type": "wav2vec2"}', "wav2vec2"),
        ("{}", "not of NatureLM-audio"),
        ('{"model_type": "naturelm"}', "text_config"),
    ],
)
def test_config_of_nothing_usable(
    ours: Path, load: Callable[..., Any], content: str | None, shown: str
) -> None:
    (ours / "config.json").unlink()
    if content is not None:
        (ours / "config.json").write_bytes(content.encode("latin-1"))
    assert shown in fault_of(ours, load)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["prompt_template"], "no place for the question"),
        (["prompt_template"], None),
        (["end_of_answer"], None),
        (["audio_token_id"], "none"),
        (["clip_seconds"], -1),
        (["max_clip_seconds"], None),
        (["audio_config"], [1]),
        (["audio_config", "model_type"], "unheard-of"),
        (["audio_config", "embed_dim"], 10**12),  # would not fit into any memory
        (["audio_config", "hidden_size"], "24"),
        (["audio_config", "num_attention_heads"], 0),
        (["audio_config", "hidden_act"], "__import__('os')"),
        (["audio_config", "exact_mask"], False),
        (["projector_config", "kind"], "max"),
        (["projector_config", "window_frames"], 0),
        (["projector_config", "stride_frames"], 17),  # beyond the window of 16: frames would be lost
        (["projector_config", "num_queries"], -2),
        (["text_config"], "llama"),
        (["text_config", "model_type"], "bert"),
        (["text_config", "vocab_size"], -1),
        (["text_config", "num_attention_heads"], 0),
        (["lora"], {"unknown": 1}),
        (["lora", "target_modules"], ["nothing_of_this_name"]),
    ],
)
def test_hostile_value(ours: Path, path: list[str], value: Any) -> None:
    change_config(ours, *path, to=value)
    fault_of(ours)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["beats_cfg"], [1]),
        (["beats_cfg", "encoder_layers"], "two"),
        (["second_per_window"], "0.3"),
        (["second_stride"], 0),
        (["lora_rank"], -1),
        (["prompt_template"], "nowhere"),
        (["window_level_Qformer"], False),
    ],
)
def test_hostile_value_in_the_official_layout(official: Path, path: list[str], value: Any) -> None:
    change_config(official, *path, to=value)
    if path == ["window_level_Qformer"]:
        change_config(official, "use_audio_Qformer", to=True)
    fault_of(official)


def test_official_layout_without_a_language_model(official: Path) -> None:
    change_config(official, "llama_path", to=None)
    assert "llm=" in fault_of(official)


def test_language_model_folder_with_faults(official: Path, tmp_path: Path) -> None:
    llm = save_llm(tmp_path / "llm")
    change_config(official, "llama_path", to=str(llm))
    change_tensors(
        official,
        lambda tensors: [
            tensors.pop(n) for n in list(tensors) if n.startswith("llama_") and ".lora_" not in n
        ],
    )
    load_model(official)

    def fault() -> str:
        with pytest.raises(CheckpointError) as caught:
            load_model(official)
        assert "\n" not in str(caught.value)
        assert str(llm) in str(caught.value)
        return str(caught.value)

    (llm / "model.safetensors").rename(llm / "pytorch_model.bin")
    assert "weights" in fault()
    (llm / "pytorch_model.bin").rename(llm / "model.safetensors")
    with (llm / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert "weights" in fault()
    (llm / "config.json").write_text("{")
    assert "config.json" in fault()
    (llm / "tokenizer.json").unlink()
    assert "tokenizer" in fault()


def test_no_tokenizer(ours: Path) -> None:
    (ours / "tokenizer.json").unlink()
    assert "tokenizer.json" in fault_of(ours, load_processor)


# --- weight files ---------------------------------------------------------------------------------


def test_index_cannot_leave_its_folder(ours: Path, tmp_path: Path) -> None:
    outside = tmp_path / "etc" / "x.safetensors"
    outside.parent.mkdir()
    (ours / "model.safetensors").rename(outside)
    names = load_file(outside)
    for place in ("../etc/x.safetensors", str(outside)):
        index = {"weight_map": dict.fromkeys(names, place)}
        (ours / "model.safetensors.index.json").write_text(json.dumps(index))
        # The file that is named is whole and readable, and still not taken.
        assert "missing weight files x.safetensors" in fault_of(ours)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {"a": 5}}', '{"weight_map": [1]}'])
def test_index_of_nothing_usable(ours: Path, content: str) -> None:
    (ours / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in fault_of(ours)


def test_pickle_is_refused(ours: Path) -> None:
    torch.save(load_file(ours / "model.safetensors"), ours / "pytorch_model.bin")
    (ours / "model.safetensors").unlink()
    message = fault_of(ours)
    assert "pytorch_model.bin" in message
    assert "safetensors" in message


def test_no_weights(ours: Path) -> None:
    (ours / "model.safetensors").unlink()
    assert "no safetensors file" in fault_of(ours)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, "half"])
def test_damaged_safetensors(ours: Path, content: bytes | str) -> None:
    path = ours / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    assert "model.safetensors" in fault_of(ours)


# --- sources --------------------------------------------------------------------------------------


def test_source_that_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    assert "a file" in fault_of(tmp_path / "file.txt")
    assert "no such folder" in fault_of(tmp_path / "absent" / "folder")
    assert "no such folder" in fault_of("minni")


def answer_of_hub(status: int) -> MagicMock:
    """Stands for an HTTP response, whose class differs between versions of huggingface_hub."""
    return MagicMock(status_code=status, headers={})


HUB_FAULTS = {
    "gated": (
        GatedRepoError("401\nclient error", response=answer_of_hub(401)),
        ["is gated", "request access on https://huggingface.co/", "hf auth login"],
    ),
    "unknown": (
        RepositoryNotFoundError("404\nclient error", response=answer_of_hub(404)),
        ["no such model on the hub", "hf auth login"],
    ),
    "offline": (LocalEntryNotFoundError("not\ncached"), ["connect once", "folder", "hf auth login"]),
    "down": (HfHubHTTPError("503\nserver error", response=answer_of_hub(503)), ["could not be reached"]),
    "refused": (OSError("connection\nrefused"), ["could not be reached"]),
}


@pytest.mark.parametrize("kind", HUB_FAULTS)
def test_hub_faults(official: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """For the checkpoint itself and for the language model that an official checkpoint names."""
    error, shown = HUB_FAULTS[kind]

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(loading, "snapshot_download", fail)
    name = "meta-llama/Meta-Llama-3.1-8B-Instruct"
    change_config(official, "llama_path", to=name)
    for source in ("EarthSpeciesProject/NatureLM-audio", official):
        with pytest.raises(CheckpointError) as caught:
            load_model(source)
        message = str(caught.value)
        assert "\n" not in message
        assert (name if source == official else source) in message
        for words in shown:
            assert words in message


def test_hub_download_takes_no_pickles_and_keeps_the_revision(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, **kwargs: Any) -> str:
        asked.update(kwargs, name=name)
        return str(ours)

    monkeypatch.setattr(loading, "snapshot_download", fetch)
    load_model("someone/model", revision="abc", local_files_only=True)
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("someone/model", "abc", True)
    assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in asked["allow_patterns"])
