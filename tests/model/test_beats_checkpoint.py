"""BEATs: original files, masks and relative positions."""

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_folder import BEATS_CFG, official_like_model, official_tensors
from torch import Tensor

from naturelm.errors import CheckpointError
from naturelm.model.beats import BeatsModel
from naturelm.model.loading import load_beats
from tiny import noise, tiny_beats_config


def original_content() -> dict[str, Any]:
    """What an original file holds."""
    tensors = official_tensors(official_like_model())
    own = {name.removeprefix("beats."): t for name, t in tensors.items() if name.startswith("beats.")}
    return {"cfg": dict(BEATS_CFG), "model": own}


@pytest.fixture(scope="module")
def original_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("beats") / "BEATs.pt"
    torch.save(original_content(), path)
    return path


def ear(seed: int = 0, **changes: Any) -> BeatsModel:
    """With every parameter random, so that nothing cancels."""
    torch.manual_seed(seed)
    model = BeatsModel(tiny_beats_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


# --- original files -------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [load_beats, BeatsModel.from_pretrained])
@pytest.mark.parametrize("kind", [str, Path])
def test_original_file(
    original_file: Path, load: Callable[..., BeatsModel], kind: Callable[[Path], Any]
) -> None:
    expected, loaded = official_like_model().ear, load(kind(original_file))
    assert not loaded.training
    waveform = torch.from_numpy(noise(1))[None]
    with torch.no_grad():
        difference = loaded(waveform).last_hidden_state - expected(waveform).last_hidden_state
    assert difference.abs().max() <= 1e-5


def test_our_layout(tmp_path: Path) -> None:
    model = ear()
    model.save_pretrained(tmp_path)
    loaded = BeatsModel.from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def fault_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        BeatsModel.from_pretrained(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("plain_pickle", [False, True])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path: Path, plain_pickle: bool) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    content = {**original_content(), "extra": Bomb(mark)}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    assert "refused" in fault_of(path)
    assert not mark.exists()
    # The file is not a dud: loaded without care, it does run.
    torch.load(path, weights_only=False) if not plain_pickle else pickle.loads(path.read_bytes())  # noqa: S301
    assert mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(original_file: Path, tmp_path: Path, share: float) -> None:
    path, whole = tmp_path / "half.pt", original_file.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "download it again" in fault_of(path)


def test_absent_file(tmp_path: Path) -> None:
    assert "no such file" in fault_of(tmp_path / "absent.pt")


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1],
        torch.zeros(3),
        {"cfg": None, "model": {}},
        {"cfg": {}, "model": 5},
        {"cfg": {"encoder_layers": "two"}, "model": {}},
        {"cfg": {"encoder_embed_dim": 10**7}, "model": {}},
        {"cfg": dict(BEATS_CFG), "model": {"layer_norm.weight": "a word"}},
    ],
)
def test_file_of_something_else(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    fault_of(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda t: t.pop("post_extract_proj.bias"), "missing patch_projection.bias"),
        (lambda t: t.pop("encoder.pos_conv.0.weight_v"), "missing position_conv.weight"),
        (lambda t: t.update({"decoder.weight": torch.zeros(1)}), "decoder.weight"),
        (lambda t: t.update({"encoder.layers.7.fc1.bias": torch.zeros(1)}), "extra layers.7.fc1.bias"),
        (lambda t: t.update({"layer_norm.bias": torch.zeros(3)}), "of another shape patch_norm.bias"),
    ],
)
def test_wrong_tensors_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], shown: str
) -> None:
    content = original_content()
    change(content["model"])
    torch.save(content, tmp_path / "wrong.pt")
    assert shown in fault_of(tmp_path / "wrong.pt")


# --- masks and positions --------------------------------------------------------------------------


def padded(clip: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(1, length) samples with loud padding, and its mask."""
    loud = torch.from_numpy(noise(length / 16_000, seed=9))[None] * 5
    mask = torch.arange(length)[None] >= len(clip)
    return torch.where(mask, loud, torch.nn.functional.pad(clip[None], (0, length - len(clip)))), mask


@pytest.mark.parametrize("samples", [2_800, 5_359, 5_360, 5_361, 16_000])
def test_exact_mask_makes_padding_nothing(samples: int) -> None:
    model, clip = ear(), torch.from_numpy(noise(1))[:samples]
    waveform, padding = padded(clip, 32_000)
    with torch.no_grad():
        alone, batched = model(clip[None]), model(waveform, padding)
    frames = alone.last_hidden_state.shape[1]
    assert frames == model.config.num_frames(samples) == batched.frame_mask.sum()
    assert batched.frame_mask[0, :frames].all()
    torch.testing.assert_close(
        batched.last_hidden_state[:, :frames], alone.last_hidden_state, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("exact", [True, False])
def test_no_mask_is_a_mask_of_no_padding(exact: bool) -> None:
    model, waveform = ear(exact_mask=exact), torch.from_numpy(noise(1))[None]
    with torch.no_grad():
        without, given = model(waveform), model(waveform, torch.zeros_like(waveform, dtype=torch.bool))
    assert without.frame_mask.all()
    assert torch.equal(without.frame_mask, given.frame_mask)
    assert torch.equal(without.last_hidden_state, given.last_hidden_state)


def test_original_mask_marks_a_share_that_is_wholly_padding() -> None:
    """160 samples a frame and two frames a patch here: (1 s) 98 frames and 48 patches."""
    model = ear(exact_mask=False)
    padding = torch.arange(16_000)[None] >= 8_000
    with torch.no_grad():
        mask = model(torch.from_numpy(noise(1))[None], padding).frame_mask
    share = 16_000 // 98
    real_frames = math.ceil(8_000 / share)
    assert mask.shape == (1, 48)
    assert mask.sum() == math.ceil(real_frames / 2)


def bucket(query: int, key: int, num_buckets: int, max_distance: int) -> int:
    """The bucket of one pair, as the paper's source (T5) words it: half for keys that come later."""
    half = num_buckets // 2
    near, distance = half // 2, abs(key - query)
    later = half if key > query else 0
    if distance < near:
        return later + distance
    steps = math.log(distance / near) / math.log(max_distance / near) * (half - near)
    return later + min(half - 1, near + int(steps))


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 64), (320, 800), (16, 50)])
def test_position_buckets(num_buckets: int, max_distance: int) -> None:
    """Seen from outside: one layer's attention bias is the embedding of each pair's bucket."""
    model = ear(num_buckets=num_buckets, max_distance=max_distance, gated_position_bias=False)
    biases = []
    model.layers[0].attention.register_forward_pre_hook(lambda _, given: biases.append(given[1]))
    frames = 120
    with torch.no_grad():
        model.encode(torch.zeros(1, frames, model.config.hidden_size), None)
    table = model.relative_position.weight
    pairs = [[bucket(q, k, num_buckets, max_distance) for k in range(frames)] for q in range(frames)]
    assert len({b for row in pairs for b in row}) > num_buckets // 3
    assert torch.equal(biases[0], table[torch.tensor(pairs)].permute(2, 0, 1))
