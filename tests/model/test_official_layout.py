"""The official layout: names, weight norm, shards, and a language model that lies elsewhere."""

import json
import re
from pathlib import Path

import pytest
import torch
from official_folder import BEATS_CFG, official_like_model, official_tensors, save_llm, save_official
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, LlamaForCausalLM

from naturelm.model.loading import load_beats, load_model, load_processor
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.official import fold_weight_norm, translate_config, translate_name
from tiny import noise, tiny_tokenizer

PARITY = Path(__file__).resolve().parents[2].parent / "shared" / "parity"
# Repeats of other tensors, and what plays no part in hearing.
NOT_NEEDED = (
    r"beats\.predictor\.(weight|bias)",
    r"beats\.encoder\.layers\.([1-9]|1[01])\.self_attn\.relative_attention_bias\.weight",
    r"audio_Qformer\.bert\.embeddings\.position_ids",
    r"llama_embed_tokens\.weight",
)


@pytest.mark.skipif(not PARITY.is_dir(), reason="shared/parity is not beside the repository")
def test_all_names_of_the_full_size_model() -> None:
    theirs = json.loads((PARITY / "official_full_keys.json").read_text())
    fields = json.loads((PARITY / "official_config_example.json").read_text())
    text = AutoConfig.for_model(
        "llama",
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        model = NatureLMForConditionalGeneration(translate_config(fields, text, 128_257))
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}

    found: dict[str, list[int]] = {}
    for name, shape in theirs.items():
        place = translate_name(name)
        if place is None:
            assert any(re.fullmatch(pattern, name) for pattern in NOT_NEEDED), name
            continue
        assert place not in found, f"{name} would overwrite another tensor"
        found[place] = shape
    assert found.pop("ear.position_conv.weight_g") == [1, 1, 128]
    found["ear.position_conv.weight"] = found.pop("ear.position_conv.weight_v")

    assert len(theirs) == 860
    assert found == ours


def test_unknown_name_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        translate_name("beats.encoder.layers.0.self_attn_v2.weight_x")


@pytest.mark.parametrize("kernel", [3, 128])
def test_weight_norm_as_torch_has_it(kernel: int) -> None:
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, kernel, groups=2), dim=2)
    with torch.no_grad():
        conv.parametrizations.weight.original0.mul_(torch.rand(1, 1, kernel) + 0.5)
    parts = conv.parametrizations.weight
    folded = fold_weight_norm(parts.original0.detach(), parts.original1.detach())
    torch.testing.assert_close(folded, conv.weight.detach(), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def original() -> NatureLMForConditionalGeneration:
    return official_like_model()


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration and tokenizer alone: the checkpoint has the weights."""
    return save_llm(tmp_path_factory.mktemp("llm"), weights=False)


def assert_same_answers(folder: Path, original: NatureLMForConditionalGeneration) -> None:
    loaded = load_model(folder)
    batch = load_processor(folder)(["What is it?", "Dog?"], [noise(1), noise(2)], answers=["Cat", "None"])
    with torch.no_grad():
        expected, given = original(**batch), loaded(**batch)
    torch.testing.assert_close(given.logits, expected.logits, rtol=0, atol=1e-5)


def test_one_file(tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration) -> None:
    assert_same_answers(save_official(tmp_path / "x", llm, official_tensors(original)), original)


def test_newer_spelling_of_weight_norm(
    tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration
) -> None:
    tensors, stem = official_tensors(original), "beats.encoder.pos_conv.0"
    tensors[f"{stem}.parametrizations.weight.original0"] = tensors.pop(f"{stem}.weight_g")
    tensors[f"{stem}.parametrizations.weight.original1"] = tensors.pop(f"{stem}.weight_v")
    assert_same_answers(save_official(tmp_path / "x", llm, tensors), original)


def shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Two safetensors files and their index."""
    names = sorted(tensors)
    parts = {"model-00001-of-00002": names[::2], "model-00002-of-00002": names[1::2]}
    index = {name: f"{part}.safetensors" for part, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / f"{part}.safetensors")


def test_shards(tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration) -> None:
    folder = save_official(tmp_path / "x", llm, None)
    shards(official_tensors(original), folder)
    # A file that the index does not name is not read, whatever it holds.
    (folder / "leftover.safetensors").write_bytes(b"not one")
    assert_same_answers(folder, original)


def test_language_model_from_its_own_folder(tmp_path: Path) -> None:
    """Weights of the adapter and the audio side alone; the pad token that is added at load gets a row."""
    vocab_size = len(tiny_tokenizer())
    llm = save_llm(tmp_path / "llm", vocab_size=vocab_size, pad=False)
    original = official_like_model(vocab_size + 1)
    tensors = {
        name: tensor
        for name, tensor in official_tensors(original).items()
        if not name.startswith("llama_") or ".lora_" in name
    }
    folder = save_official(tmp_path / "x", llm, tensors)

    loaded, processor = load_model(folder), load_processor(folder)
    assert processor.pad_token_id == vocab_size
    assert loaded.config.audio_token_id == vocab_size + 1
    base = LlamaForCausalLM.from_pretrained(llm).state_dict()
    ours = loaded.state_dict()
    for name, tensor in base.items():
        module, _, leaf = name.rpartition(".")
        place = f"language_model.{name}"
        row = ours[place if place in ours else f"language_model.{module}.base_layer.{leaf}"]
        assert torch.equal(row[: len(tensor)], tensor)
    assert ours["language_model.model.embed_tokens.weight"].shape == (vocab_size + 1, 32)
    lora = "language_model.model.layers.1.self_attn.v_proj.lora_B.default.weight"
    assert torch.equal(ours[lora], original.state_dict()[lora])


def test_another_language_model_takes_its_place(
    tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration
) -> None:
    """The folder named in config.json need not exist when another is given."""
    folder = save_official(tmp_path / "x", "someone/gated-model", official_tensors(original))
    assert load_model(folder, llm=llm).config.text_config.hidden_size == 32


def test_settings_are_translated(
    tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration
) -> None:
    folder = save_official(
        tmp_path / "x",
        llm,
        official_tensors(original),
        second_per_window=0.5,
        second_stride=0.2,
        lora_alpha=2,
    )
    model = load_model(folder)
    # round(1500 * seconds / 30) patches, as the original counts.
    assert (model.config.projector_config.window_frames, model.config.projector_config.stride_frames) == (
        25,
        10,
    )
    assert {layer.scaling["default"] for layer in model.lora_layers()} == {0.5}
    assert model.config.num_audio_tokens(160_000) == 1 + (496 - 25) // 10


def test_float8_matrices_become_float32(
    tmp_path: Path, llm: Path, original: NatureLMForConditionalGeneration
) -> None:
    tensors, name = official_tensors(original), "audio_llama_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    weight = load_model(save_official(tmp_path / "x", llm, tensors)).projector.linear.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, tensors[name].float())


def test_ear_alone_from_the_same_tensors(tmp_path: Path, original: NatureLMForConditionalGeneration) -> None:
    """The original BEATs file has the same names without their first word."""
    own = {
        n.removeprefix("beats."): t for n, t in official_tensors(original).items() if n.startswith("beats.")
    }
    torch.save({"cfg": BEATS_CFG, "model": own}, tmp_path / "beats.pt")
    waveform = torch.from_numpy(noise(1))[None]
    with torch.no_grad():
        expected = original.ear(waveform).last_hidden_state
        given = load_beats(tmp_path / "beats.pt")(waveform).last_hidden_state
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)
