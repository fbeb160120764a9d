"""The adapter: where it starts, how a call scales it, and what merging leaves."""

from typing import Any

import pytest
import torch
from torch import Tensor

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip, GenerationOptions, Query
from naturelm.errors import CheckpointError
from naturelm.model.modeling import NatureLMForConditionalGeneration
from tiny import noise, tiny_config, tiny_model, tiny_naturelm


@pytest.fixture(scope="module")
def batch() -> Any:
    return tiny_naturelm().processor(["What is it?", "Dog?"], [noise(1), noise(2)], answers=["Cat", "None"])


def logits(model: NatureLMForConditionalGeneration, batch: Any) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def test_fresh_adapter_adds_nothing(batch: Any) -> None:
    torch.manual_seed(0)
    model = NatureLMForConditionalGeneration(tiny_config()).eval()
    assert len(model.lora_layers()) == 8
    for layer in model.lora_layers():
        assert layer.lora_A["default"].weight.abs().max() > 0
        assert layer.lora_B["default"].weight.abs().max() == 0
    with_adapter = logits(model, batch)
    with model.merging_alpha(0):
        assert torch.equal(logits(model, batch), with_adapter)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_merging_equals_scaling(batch: Any, alpha: float) -> None:
    model, trained = tiny_model(), logits(tiny_model(), batch)
    with model.merging_alpha(alpha):
        scaled = logits(model, batch)
    assert ((scaled - trained).abs().max() > 1e-2) == (alpha != 1)
    merged = tiny_model().merge_lora(alpha)
    assert merged.lora_layers() == []
    assert merged.config.lora is None
    torch.testing.assert_close(logits(merged, batch), scaled, rtol=0, atol=1e-5)


def test_scaling_by_hand(batch: Any) -> None:
    """alpha times lora_alpha / r times B A, added to the weight."""
    model, bare = tiny_model(), tiny_model()
    for layer in bare.lora_layers():
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        with torch.no_grad():
            layer.get_base_layer().weight += 0.5 * (8 / 4) * up @ down
            up.zero_()
    with model.merging_alpha(0.5):
        torch.testing.assert_close(logits(model, batch), logits(bare, batch), rtol=0, atol=1e-5)


def test_scaling_ends_with_the_block(batch: Any) -> None:
    """In the original a call with 0.5 leaves 0.5 in force for every call that follows."""
    model = tiny_model()
    before = logits(model, batch)
    with model.merging_alpha(0.5), model.merging_alpha(0.5):
        assert {layer.scaling["default"] for layer in model.lora_layers()} == {2 * 0.25}
    assert torch.equal(logits(model, batch), before)


def test_scaling_ends_with_an_exception(batch: Any) -> None:
    model = tiny_model()
    before = logits(model, batch)
    with pytest.raises(KeyboardInterrupt), model.merging_alpha(0.0):
        raise KeyboardInterrupt
    assert torch.equal(logits(model, batch), before)


def test_scaling_of_one_answer_leaves_the_next() -> None:
    naturelm: NatureLM = tiny_naturelm()
    query = Query((Clip(noise(1)),), "What is it?")
    plain = GenerationOptions(max_new_tokens=6)
    first = naturelm.answer([query], plain)[0]
    other = naturelm.answer([query], GenerationOptions(max_new_tokens=6, merging_alpha=0.0))[0]
    assert other.token_log_probs != first.token_log_probs
    assert naturelm.answer([query], plain)[0].token_log_probs == first.token_log_probs


@pytest.mark.parametrize("kind", ["none", "merged"])
def test_scaling_without_an_adapter(kind: str) -> None:
    model = tiny_model(lora=None) if kind == "none" else tiny_model().merge_lora()
    with (
        pytest.raises(CheckpointError, match="merging_alpha needs the LoRA adapter"),
        model.merging_alpha(0.5),
    ):
        pass
    with model.merging_alpha(1.0):
        pass
