"""Layers with packed weights: the same answers, nothing left behind, and nothing stale."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from asking import SHORT, assert_same, attentive, fresh, mixed_queries, query
from torch import nn

from naturelm.answer import packed
from naturelm.answer.engine import NatureLM
from naturelm.answer.packed import PackedLayers
from naturelm.answer.results import Answer, GenerationOptions
from tiny import tiny_naturelm

QUERIES = [*mixed_queries(5), query(choices=("Dog", "Cat", "Green treefrog"))]


def layers(naturelm: NatureLM) -> list[nn.Module]:
    """The language model's products: those with an adapter, the feed-forward ones and the last."""
    decoder = naturelm.model.language_model.get_decoder()
    feed_forward = [
        getattr(block.mlp, name) for block in decoder.layers for name in ("gate_proj", "up_proj", "down_proj")
    ]
    return [*naturelm.model.lora_layers(), *feed_forward, naturelm.model.get_output_embeddings()]


def plainly(naturelm: NatureLM, options: GenerationOptions = SHORT) -> list[Answer]:
    """As torch and peft compute them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedLayers, "in_use", lambda _: nullcontext())
        return fresh(naturelm).answer(QUERIES, options)


@pytest.mark.parametrize("alpha", [1.0, 0.0, -0.5])
def test_answers_are_those_of_torchs_own_products(naturelm: NatureLM, alpha: float) -> None:
    options = replace(SHORT, merging_alpha=alpha)
    assert PackedLayers.of(naturelm.model) is not None
    assert_same(naturelm.answer(QUERIES, options), plainly(naturelm, options))
    assert not any("forward" in vars(layer) for layer in layers(naturelm))


def test_each_layer_gives_what_it_gave(naturelm: NatureLM) -> None:
    packs = PackedLayers.of(naturelm.model)
    assert packs is not None and len(layers(naturelm)) > 4
    for layer in layers(naturelm):
        rows = torch.randn(2, 3, layer.in_features)
        with torch.no_grad():
            expected = layer(rows)
            with packs.in_use():
                torch.testing.assert_close(layer(rows), expected)
            assert torch.equal(layer(rows), expected)


def test_the_layers_are_themselves_again_after_an_error(naturelm: NatureLM) -> None:
    class Fails:
        def wrote(self, query: int, token: int, log_prob: float) -> None:
            raise RuntimeError("the watcher is gone")

        def unwanted(self, query: int) -> bool:
            return False

    with pytest.raises(RuntimeError, match="watcher is gone"):
        naturelm.answer([query()], SHORT, Fails())
    assert not any("forward" in vars(layer) for layer in layers(naturelm))
    assert_same(naturelm.answer(QUERIES, SHORT), fresh(naturelm).answer(QUERIES, SHORT))


def test_answers_are_written_with_packed_layers(naturelm: NatureLM) -> None:
    class Looks:
        def wrote(self, query: int, token: int, log_prob: float) -> None:
            seen.append(all("forward" in vars(layer) for layer in layers(naturelm)))

        def unwanted(self, query: int) -> bool:
            return False

    seen: list[bool] = []
    naturelm.answer([query()], SHORT, Looks())
    assert seen and all(seen)


def head(naturelm: NatureLM) -> None:
    naturelm.model.get_output_embeddings().weight.mul_(1.5)


def adapter(naturelm: NatureLM) -> None:
    for layer in naturelm.model.lora_layers():
        layer.lora_B["default"].weight.mul_(-4)


def base(naturelm: NatureLM) -> None:
    for layer in naturelm.model.lora_layers():
        layer.get_base_layer().weight.data.mul_(-3)


@pytest.mark.parametrize("change", [head, adapter, base])
def test_changed_weights_are_packed_anew(change: Callable[[NatureLM], None]) -> None:
    naturelm = attentive(tiny_naturelm())
    before = naturelm.answer(QUERIES, SHORT)
    with torch.no_grad():
        change(naturelm)
    after = naturelm.answer(QUERIES, SHORT)
    assert_same(after, plainly(naturelm))
    assert all(
        a.probability != pytest.approx(b.probability, rel=1e-4) for a, b in zip(after, before, strict=True)
    )


def test_a_merged_adapter_leaves_the_last_layer(naturelm: NatureLM) -> None:
    merged = attentive(tiny_naturelm())
    expected = merged.answer(QUERIES, SHORT)
    merged.model.merge_lora()
    assert PackedLayers.of(merged.model) is not None
    assert_same(merged.answer(QUERIES, SHORT), expected)


def test_what_is_no_plain_float32_layer_is_left_alone() -> None:
    double = tiny_naturelm().model.double()
    assert PackedLayers.of(double) is None
    hooked = tiny_naturelm()
    for layer in layers(hooked):
        layer.forward = layer.forward  # type: ignore[method-assign]  # as accelerate does
    assert PackedLayers.of(hooked.model) is None
    hooked.answer(QUERIES, SHORT)
    assert all("forward" in vars(layer) for layer in layers(hooked))


def test_layers_with_an_adapter_and_the_last_come_first(
    naturelm: NatureLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = PackedLayers.of(naturelm.model)
    assert everything is not None
    monkeypatch.setattr(packed, "_MOST_BYTES", everything.nbytes - 1)
    some = PackedLayers.of(naturelm.model)
    assert some is not None
    first = [*naturelm.model.lora_layers(), naturelm.model.get_output_embeddings()]
    with some.in_use():
        assert [layer for layer in layers(naturelm) if "forward" in vars(layer)] == [
            layer for layer in layers(naturelm) if any(layer is of for of in first)
        ]
    monkeypatch.setattr(packed, "_MOST_BYTES", 1)
    assert PackedLayers.of(naturelm.model) is None
