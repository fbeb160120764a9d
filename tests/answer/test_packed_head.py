"""The last layer with a packed weight: the same answers, nothing left behind, and nothing stale."""

from contextlib import nullcontext

import pytest
import torch
from asking import SHORT, assert_same, attentive, fresh, mixed_queries, query
from torch import nn

from naturelm.answer.engine import NatureLM
from naturelm.answer.packed_head import PackedHead
from naturelm.answer.results import Answer, Query
from tiny import tiny_naturelm

QUERIES = [*mixed_queries(5), query(choices=("Dog", "Cat", "Green treefrog"))]


def with_torchs_own_product(naturelm: NatureLM, queries: list[Query]) -> list[Answer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedHead, "in_use", lambda _: nullcontext())
        return fresh(naturelm).answer(queries, SHORT)


def test_answers_are_those_of_torchs_own_product(naturelm: NatureLM) -> None:
    head = naturelm.model.get_output_embeddings()
    assert PackedHead.of(head) is not None
    assert_same(naturelm.answer(QUERIES, SHORT), with_torchs_own_product(naturelm, QUERIES))
    assert "forward" not in vars(head)


def test_the_layer_is_itself_again_after_an_error(naturelm: NatureLM) -> None:
    class Fails:
        def wrote(self, query: int, token: int, log_prob: float) -> None:
            raise RuntimeError("the watcher is gone")

        def unwanted(self, query: int) -> bool:
            return False

    with pytest.raises(RuntimeError, match="watcher is gone"):
        naturelm.answer([query()], SHORT, Fails())
    assert "forward" not in vars(naturelm.model.get_output_embeddings())
    assert_same(naturelm.answer(QUERIES, SHORT), fresh(naturelm).answer(QUERIES, SHORT))


def test_a_changed_head_is_packed_anew() -> None:
    naturelm = attentive(tiny_naturelm())
    before = naturelm.answer(QUERIES, SHORT)
    with torch.no_grad():
        naturelm.model.get_output_embeddings().weight.mul_(1.5)
    after = naturelm.answer(QUERIES, SHORT)
    assert_same(after, with_torchs_own_product(naturelm, QUERIES))
    assert all(
        a.probability != pytest.approx(b.probability, rel=1e-3) for a, b in zip(after, before, strict=True)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 12), (7, 12), (2, 3, 12)])
def test_the_product_is_the_layers(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(12, 40, bias=bias)
    packed = PackedHead.of(layer)
    assert packed is not None
    rows = torch.randn(shape)
    with torch.no_grad():
        expected = layer(rows)
        with packed.in_use():
            torch.testing.assert_close(layer(rows), expected)
        assert torch.equal(layer(rows), expected)


def test_what_is_no_plain_float32_layer_is_left_alone() -> None:
    class Other(nn.Linear):
        pass

    hooked = nn.Linear(4, 8)
    hooked.forward = hooked.forward  # type: ignore[method-assign]  # as accelerate does
    for layer in (
        nn.Linear(4, 8, dtype=torch.float64),
        nn.Linear(4, 8, dtype=torch.bfloat16),
        Other(4, 8),
        hooked,
        None,
    ):
        assert PackedHead.of(layer) is None
