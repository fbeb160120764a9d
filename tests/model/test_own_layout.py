"""Our layout: what is saved comes back, alone or through the Auto classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
)

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Clip, GenerationOptions, Query
from naturelm.errors import CheckpointError
from naturelm.model.beats import BeatsModel
from naturelm.model.configuration import NatureLMConfig
from naturelm.model.features import NatureLMFeatureExtractor
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from tiny import noise, save_tiny_llm, tiny_model, tiny_naturelm, tiny_text_config


@pytest.fixture(scope="module")
def naturelm() -> NatureLM:
    return tiny_naturelm()


@pytest.fixture(scope="module")
def folder(naturelm: NatureLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved")
    naturelm.model.save_pretrained(place)
    naturelm.processor.save_pretrained(place)
    return place


def answer(naturelm: NatureLM) -> Answer:
    return naturelm.answer([Query((Clip(noise(1)),), "What is it?")], GenerationOptions(max_new_tokens=8))[0]


def assert_same_weights(loaded: Any, original: Any) -> None:
    ours, theirs = loaded.state_dict(), original.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_round_trip(naturelm: NatureLM, folder: Path) -> None:
    loaded = NatureLM.from_pretrained(folder, device="cpu")
    assert_same_weights(loaded.model, naturelm.model)
    assert not loaded.model.training
    assert answer(loaded).token_ids == answer(naturelm).token_ids
    ours, theirs = loaded.model.config.to_dict(), naturelm.model.config.to_dict()
    for name in ("lora", "prompt_template", "end_of_answer", "add_bos", "audio_token_id", "clip_seconds"):
        assert ours[name] == theirs[name]
    assert loaded.model.config.audio_config.exact_mask
    assert loaded.model.config.projector_config.honour_mask


def test_tied_embeddings_are_stored_once_and_come_back(tmp_path: Path) -> None:
    text = LlamaConfig(**{**tiny_text_config().to_dict(), "tie_word_embeddings": True})
    model = tiny_model(text_config=text)
    assert model.language_model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    tiny_naturelm().processor.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert (
        len({"language_model.lm_head.weight", "language_model.model.embed_tokens.weight"} & stored.keys())
        == 1
    )
    loaded = NatureLMForConditionalGeneration.from_pretrained(tmp_path)
    assert_same_weights(loaded, model)
    assert loaded.language_model.lm_head.weight is loaded.get_input_embeddings().weight


def test_without_the_language_model(tmp_path: Path) -> None:
    """Audio side and adapter are saved; the rest comes from where config.text_model says."""
    llm = save_tiny_llm(tmp_path / "llm")
    naturelm = tiny_naturelm(text_model=str(llm))
    base = LlamaForCausalLM.from_pretrained(llm).state_dict()
    own = naturelm.model.language_model.state_dict()
    with torch.no_grad():
        for name, tensor in base.items():
            module, _, leaf = name.rpartition(".")
            own[name if name in own else f"{module}.base_layer.{leaf}"].copy_(tensor)
    naturelm.model.save_pretrained(tmp_path / "x", with_language_model=False)

    stored = load_file(tmp_path / "x" / "model.safetensors")
    language = [name for name in stored if name.startswith("language_model.")]
    assert len(language) == 16
    assert all(".lora_" in name for name in language)
    loaded = NatureLM.from_pretrained(tmp_path / "x", device="cpu")
    assert_same_weights(loaded.model, naturelm.model)
    assert answer(loaded).token_ids == answer(naturelm).token_ids


def test_without_the_language_model_there_must_be_a_source(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="text_model") as caught:
        tiny_model().save_pretrained(tmp_path / "x", with_language_model=False)
    assert str(tmp_path / "x") in str(caught.value)


def test_merged_model_comes_back_without_an_adapter(tmp_path: Path) -> None:
    naturelm = tiny_naturelm()
    naturelm.model.merge_lora()
    naturelm.model.save_pretrained(tmp_path)
    naturelm.processor.save_pretrained(tmp_path)
    loaded = NatureLM.from_pretrained(tmp_path, device="cpu")
    assert loaded.model.lora_layers() == []
    assert_same_weights(loaded.model, naturelm.model)


def test_many_shards(tmp_path: Path, naturelm: NatureLM) -> None:
    naturelm.model.save_pretrained(tmp_path, max_shard_size="100KB")
    naturelm.processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same_weights(NatureLMForConditionalGeneration.from_pretrained(tmp_path), naturelm.model)


def test_dtype_is_of_the_language_model(folder: Path) -> None:
    """Half precision would lose quiet sound."""
    loaded = NatureLMForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
    for name, parameter in loaded.named_parameters():
        language = name.startswith("language_model.")
        assert parameter.dtype == (torch.bfloat16 if language else torch.float32), name
    whole = NatureLMForConditionalGeneration.from_pretrained(folder)
    assert {parameter.dtype for parameter in whole.parameters()} == {torch.float32}


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM])
def test_auto_models(naturelm: NatureLM, folder: Path, auto: Any) -> None:
    loaded = auto.from_pretrained(folder)
    assert isinstance(loaded, NatureLMForConditionalGeneration)
    assert_same_weights(loaded, naturelm.model)


def test_auto_config_and_ear(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert isinstance(config, NatureLMConfig)
    assert isinstance(AutoModel.from_config(config.audio_config), BeatsModel)


def test_auto_processor(naturelm: NatureLM, folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, NatureLMProcessor)
    given, expected = (p("What is it?", [noise(1)]) for p in (processor, naturelm.processor))
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in expected)


def test_auto_feature_extractor(folder: Path) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert isinstance(extractor, NatureLMFeatureExtractor)
    assert (extractor.sampling_rate, extractor.min_samples) == (16_000, 2_800)


def test_a_configuration_that_is_given_takes_the_place_of_the_saved(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.max_clip_seconds = 7.0
    loaded = NatureLMForConditionalGeneration.from_pretrained(folder, config=config)
    assert loaded.config.max_clip_seconds == 7.0
