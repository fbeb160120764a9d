"""Export: what is written loads as the same model, in either layout, or nothing is written at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, LlamaForCausalLM

from model.official_folder import official_like_model, save_llm
from naturelm.errors import CheckpointError
from naturelm.model import loading
from naturelm.model.configuration import NatureLMConfig, NatureLMProjectorConfig
from naturelm.model.loading import load_model, load_processor
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.official import fold_weight_norm, official_name, translate_name, unfold_weight_norm
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.export import export_run
from naturelm.train.options import TrainError
from tiny import noise, tiny_beats_config, tiny_model, tiny_text_config, tiny_tokenizer

HUB_LLM = "someone/tiny-llm"
PARITY = Path(__file__).resolve().parents[2].parent / "shared" / "parity"


def half_rounded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half().float() for name, tensor in tensors.items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def logits(model: NatureLMForConditionalGeneration, processor: NatureLMProcessor) -> Tensor:
    batch = processor(["What is it?", "Dog?"], [noise(1), noise(2)], answers=["Cat", "None"])
    with torch.no_grad():
        return model(**batch).logits


def save(
    model: NatureLMForConditionalGeneration, folder: Path, *, llm: str | None, whole: bool = False
) -> Path:
    """Write a model as a run does; returns its folder.

    llm: the language model that it names; whole: its weights and tokenizer are written as well.
    """
    model.config.text_model = llm
    model.save_pretrained(folder, with_language_model=whole)
    if whole:
        NatureLMProcessor.from_model_config(model.config, tiny_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture
def llm(tmp_path: Path) -> Path:
    return save_llm(tmp_path / "own-llm")


@pytest.fixture
def hub_llm(llm: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A language model on a hub that has nothing else."""

    def download(name: str, **kwargs: Any) -> str:
        if name != HUB_LLM:
            raise FileNotFoundError(name)
        return str(llm)

    monkeypatch.setattr(loading, "snapshot_download", download)
    return HUB_LLM


# --- our layout --------------------------------------------------------------------------------


def test_ours_holds_what_was_trained_in_half_precision(tmp_path: Path, hub_llm: str) -> None:
    before = load_model(save(tiny_model(), tmp_path / "run" / "model", llm=hub_llm))
    out = export_run(tmp_path / "run", "naturelm", tmp_path / "out")

    assert {file.name for file in out.iterdir()} == {
        "README.md", "config.json", "generation_config.json", "model.safetensors",
    }  # fmt: skip
    stored = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert all(".lora_" in name or not name.startswith("language_model.") for name in stored)
    after = load_model(out)
    expected = {
        name: half_rounded({name: tensor})[name] if name in stored else tensor
        for name, tensor in before.state_dict().items()
    }
    assert_equal(expected, after.state_dict())
    assert (after.config.text_model, after.config.clip_seconds) == (HUB_LLM, 5.0)


def test_who_may_read_the_configuration_may_read_the_weights(tmp_path: Path, hub_llm: str) -> None:
    save(tiny_model(), tmp_path / "run" / "model", llm=hub_llm)
    before = os.umask(0o022)
    try:
        out = export_run(tmp_path / "run", "naturelm", tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in out.iterdir()}
    assert set(modes.values()) == {0o644}


def test_ours_tells_nothing_of_this_machine(tmp_path: Path, hub_llm: str) -> None:
    save(tiny_model(), tmp_path / "run" / "model", llm=hub_llm)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    config["text_config"]["_name_or_path"] = str(tmp_path)
    (tmp_path / "run" / "model" / "config.json").write_text(json.dumps(config))
    out = export_run(tmp_path / "run", "naturelm", tmp_path / "out")
    for file in (out / "config.json", out / "generation_config.json", out / "README.md"):
        assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_of_ones_own_comes_along(tmp_path: Path, llm: Path, tied: bool) -> None:
    """Nobody else has a local folder: the export must do without it."""
    text = tiny_text_config()
    text.tie_word_embeddings = tied
    LlamaForCausalLM(text).save_pretrained(llm)
    before = load_model(save(tiny_model(text_config=text), tmp_path / "model", llm=str(llm)))
    out = export_run(tmp_path / "model", "naturelm", tmp_path / "out")
    shutil.rmtree(llm)

    after, processor = load_model(out), load_processor(out)
    assert after.config.text_model is None
    assert_equal(half_rounded(before.state_dict()), after.state_dict())
    assert ("language_model.lm_head.weight" in load_file(out / "model.safetensors")) is not tied
    assert processor.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert str(llm) not in "".join(file.read_text() for file in out.glob("*.json"))
    before.load_state_dict(half_rounded(before.state_dict()))
    assert torch.equal(logits(before, processor), logits(after, processor))


def test_a_model_that_names_no_language_model(tmp_path: Path) -> None:
    before = load_model(save(tiny_model(), tmp_path / "model", llm=None, whole=True))
    out = export_run(tmp_path / "model", "naturelm", tmp_path / "out")
    assert_equal(half_rounded(before.state_dict()), load_model(out).state_dict())


def test_bfloat16_stays_as_it_is(tmp_path: Path) -> None:
    """Its large numbers do not fit into float16, its small ones vanish there."""
    model = tiny_model()
    model.language_model.to(torch.bfloat16)
    model.language_model.model.norm.weight.data[0] = 1e6
    save(model, tmp_path / "model", llm=None, whole=True)
    out = export_run(tmp_path / "model", "naturelm", tmp_path / "out")
    kept = load_file(out / "model.safetensors")["language_model.model.norm.weight"]
    assert torch.equal(kept, model.language_model.model.norm.weight.data)


@pytest.mark.parametrize("to", ["naturelm", "official"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers(tmp_path: Path, llm: Path, to: Any, value: float) -> None:
    model = official_like_model()
    model.projector.linear.bias.data[3] = value
    save(model, tmp_path / "model", llm=str(llm))
    with pytest.raises(TrainError, match=r"projector\.linear\.bias: not finite"):
        export_run(tmp_path / "model", to, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "own-llm"}


def test_too_large_for_half_precision(tmp_path: Path, llm: Path) -> None:
    model = tiny_model()
    model.projector.linear.bias.data[3] = 1e5
    save(model, tmp_path / "model", llm=str(llm))
    with pytest.raises(TrainError, match="too large"):
        export_run(tmp_path / "model", "naturelm", tmp_path / "out")


# --- official layout ---------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("lora", [True, False])
def test_official_and_back(tmp_path: Path, llm: Path, whole: bool, lora: bool) -> None:
    model = official_like_model() if lora else official_like_model().merge_lora()
    before = load_model(save(model, tmp_path / "run" / "model", llm=str(llm), whole=whole))
    out = export_run(tmp_path / "run", "official", tmp_path / "out")

    assert {file.name for file in out.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    fields = json.loads((out / "config.json").read_text())
    assert (fields["llama_path"], fields["lora"], fields["end_sym"]) == (str(llm), lora, "<|im_end|>")
    after = load_model(out)
    assert_equal(before.state_dict(), after.state_dict())
    assert torch.equal(
        logits(before, load_processor(tmp_path / "run" / "model")), logits(after, load_processor(out))
    )


def test_official_with_its_qformer(tmp_path: Path, llm: Path) -> None:
    """Its size is fixed in the official layout; windows and queries are not."""
    model = official_like_model()
    config = NatureLMConfig(
        **{
            **model.config.to_dict(),
            "projector_config": NatureLMProjectorConfig(window_frames=25, stride_frames=10, num_queries=2),
        }
    )
    torch.manual_seed(0)
    before = load_model(
        save(NatureLMForConditionalGeneration(config).eval(), tmp_path / "model", llm=str(llm))
    )
    after = load_model(export_run(tmp_path / "model", "official", tmp_path / "out"))
    assert_equal(before.state_dict(), after.state_dict())
    assert after.config.projector_config.window_frames == 25
    processor = load_processor(tmp_path / "out")
    assert torch.equal(logits(before, processor), logits(after, processor))


def test_a_pad_token_that_the_official_model_adds(tmp_path: Path) -> None:
    """Weights that stay with the language model get its row when they are loaded."""
    size = len(tiny_tokenizer())
    bare = save_llm(tmp_path / "bare", vocab_size=size, pad=False)
    before = load_model(save(official_like_model(size), tmp_path / "model", llm=str(bare)))
    out = export_run(tmp_path / "model", "official", tmp_path / "out")
    expected = logits(before, load_processor(tmp_path / "model"))
    given = logits(load_model(out), load_processor(out))
    assert given.shape[-1] == size + 1
    torch.testing.assert_close(given[..., :size], expected, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_listed_at_once(tmp_path: Path, llm: Path) -> None:
    save(tiny_model(), tmp_path / "model", llm=str(llm))
    with pytest.raises(TrainError) as raised:
        export_run(tmp_path / "model", "official", tmp_path / "out")
    message = str(raised.value)
    for fact in (
        "audio_config.exact_mask is True (official: False)",
        "projector_config.honour_mask is True (official: False)",
        "projector_config.hidden_size is 24 (official: 768)",
        "add_bos is False (official: True)",
        "clip_seconds is 5.0 (official: 10.0)",
        "pad_to_clip is False (official: True)",
        "--to naturelm",
    ):
        assert fact in message
    # These the official layout can carry.
    assert not any(name in message for name in ("window_frames", "prompt_template", "lora", "text_config"))
    assert {path.name for path in tmp_path.iterdir()} == {"model", "own-llm"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}}, "lora.target_modules"),
        ({"lora": {"r": 4, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "use_dora": True}}, "use_dora"),
        ({"max_clip_seconds": 30.0}, "max_clip_seconds"),
        ({"audio_config": tiny_beats_config(exact_mask=False, num_mel_bins=64)}, "num_mel_bins"),
        ({"projector_config": {"word_hints": [{"task": "sex", "words": 1, "tokens": 1}]}}, "word_hints"),
    ],
)  # fmt: skip
def test_one_thing_that_does_not_fit(tmp_path: Path, llm: Path, changes: dict[str, Any], named: str) -> None:
    config = NatureLMConfig(**{**official_like_model().config.to_dict(), **changes})
    save(NatureLMForConditionalGeneration(config), tmp_path / "model", llm=str(llm))
    with pytest.raises(TrainError, match=named):
        export_run(tmp_path / "model", "official", tmp_path / "out")


def test_official_has_to_name_its_language_model(tmp_path: Path) -> None:
    save(official_like_model(), tmp_path / "model", llm=None, whole=True)
    with pytest.raises(TrainError, match="text_model is not set"):
        export_run(tmp_path / "model", "official", tmp_path / "out")


def test_another_tokenizer_than_the_language_models(tmp_path: Path, llm: Path) -> None:
    save(official_like_model(), tmp_path / "model", llm=str(llm), whole=True)
    path = tmp_path / "model" / "tokenizer.json"
    fields = json.loads(path.read_text())
    vocabulary = fields["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(fields))
    with pytest.raises(TrainError, match="the tokenizer"):
        export_run(tmp_path / "model", "official", tmp_path / "out")


@pytest.fixture(scope="module")
def full_size_names() -> list[str]:
    text = AutoConfig.for_model("llama", vocab_size=64, hidden_size=32, num_hidden_layers=32)
    lora = {"r": 32, "lora_alpha": 32, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    with torch.device("meta"):
        model = NatureLMForConditionalGeneration(NatureLMConfig(text_config=text, lora=lora))
    return list(model.state_dict())


@pytest.mark.parametrize("lora", [True, False])
def test_every_name_comes_back(full_size_names: list[str], lora: bool) -> None:
    for name in full_size_names:
        assert translate_name(official_name(name, lora=lora)) == name


@pytest.mark.skipif(not PARITY.is_dir(), reason="shared/parity is not beside the repository")
def test_names_are_those_of_the_official_checkpoint(full_size_names: list[str]) -> None:
    theirs = json.loads((PARITY / "official_full_keys.json").read_text())
    made = {official_name(name, lora=True) for name in full_size_names}
    assert {name.replace("pos_conv.0.weight", "pos_conv.0.weight_v") for name in made} <= theirs.keys()


def test_a_name_that_the_official_model_has_not() -> None:
    with pytest.raises(KeyError, match="output_norm"):
        official_name("projector.output_norm.weight", lora=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.integers(1, 9), st.floats(-9, 9), st.booleans())
def test_weight_norm_unfolds_to_the_last_bit(
    seed: int, size: int, taps: int, power: float, half: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.standard_normal((size, 3, taps)) * 10.0**power).float()
    weight[:, :, rng.random(taps) < 0.1] = 0
    if half:
        weight = weight.clamp(-6e4, 6e4).half()
    gain, direction = unfold_weight_norm(weight)
    assert (gain.shape, direction.shape) == ((1, 1, taps), weight.shape)
    assert torch.equal(fold_weight_norm(gain, direction).float(), weight.float())


# --- folders -----------------------------------------------------------------------------------


def test_the_newest_whole_checkpoint_of_answers(tmp_path: Path, llm: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    for seed, name in enumerate(("answers-000002", "answers-000010", "warm-up-000400", "answers-000030.tmp")):
        save(tiny_model(seed), checkpoints / name, llm=str(llm))
    (checkpoints / "answers-000010" / "optimizer.pt").write_bytes(b"not for export")
    (checkpoints / "answers-000020").mkdir()
    out = export_run(tmp_path / "run", "naturelm", tmp_path / "out")
    expected = load_model(checkpoints / "answers-000010").projector.linear.weight
    assert torch.equal(load_model(out).projector.linear.weight, expected.half().float())
    assert not (out / "optimizer.pt").exists()


def test_the_final_model_comes_before_checkpoints(tmp_path: Path, llm: Path) -> None:
    final = load_model(save(tiny_model(5), tmp_path / "run" / "model", llm=str(llm)))
    save(tiny_model(6), tmp_path / "run" / "checkpoints" / "answers-000010", llm=str(llm))
    out = export_run(tmp_path / "run", "naturelm", tmp_path / "out")
    assert torch.equal(load_model(out).projector.linear.weight, final.projector.linear.weight.half().float())


@pytest.mark.parametrize("name", ["nothing", "empty", "warm"])
def test_a_run_without_a_model(tmp_path: Path, llm: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    save(tiny_model(), tmp_path / "warm" / "checkpoints" / "warm-up-000400", llm=str(llm))
    with pytest.raises(TrainError, match=name):
        export_run(tmp_path / name, "naturelm", tmp_path / "out")


def test_a_used_folder_is_left_alone(tmp_path: Path, llm: Path) -> None:
    save(tiny_model(), tmp_path / "model", llm=str(llm))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "used", tmp_path / "file", tmp_path / "model"):
        with pytest.raises(TrainError, match="not an empty folder"):
            export_run(tmp_path / "model", "naturelm", out)
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["mine.txt"]

    (tmp_path / "empty").mkdir()
    assert load_model(export_run(tmp_path / "model", "naturelm", tmp_path / "empty"))


def test_a_place_that_cannot_be_written(tmp_path: Path, llm: Path) -> None:
    save(tiny_model(), tmp_path / "model", llm=str(llm))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainError, match="cannot be written"):
        export_run(tmp_path / "model", "naturelm", tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tiny_model(), tmp_path / "model", llm=str(llm))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("naturelm.train.export.save_file", full)
    with pytest.raises(TrainError, match="No space left"):
        export_run(tmp_path / "model", "naturelm", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "own-llm"}


def test_refused_before_anything_is_done(tmp_path: Path, llm: Path) -> None:
    save(official_like_model(), tmp_path / "model", llm=str(llm))
    official = export_run(tmp_path / "model", "official", tmp_path / "official", license="apache-2.0")
    with pytest.raises(TrainError, match="in the official layout already"):
        export_run(official, "naturelm", tmp_path / "out")
    with pytest.raises(TrainError, match="no layout 'onnx'"):
        export_run(tmp_path / "model", "onnx", tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(TrainError, match="not an identifier"):
        export_run(tmp_path / "model", "naturelm", tmp_path / "out", license="MIT\n---")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        export_run(tmp_path / "model", "naturelm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
