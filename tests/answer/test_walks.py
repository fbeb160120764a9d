"""Free answers that begin along a closed set's trie are those that are written token by token."""

from collections.abc import Sequence

import pytest
import torch
from asking import QUESTION, SHORT, assert_same, attentive, clip, fresh
from hypothesis import given
from hypothesis import strategies as st

from naturelm import GenerationOptions, NatureLM, Query
from naturelm.answer.choices import LabelTrie, greedy_walk
from tiny import tiny_naturelm

VOCABULARY = 5


@given(
    st.lists(
        st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6
    ),
    st.integers(0, 99),
)
def test_a_walk_takes_the_likeliest_token_while_there_are_logits(
    labels: list[tuple[int, ...]], seed: int
) -> None:
    trie = LabelTrie.build(labels)
    inner = trie.inner_nodes()
    logits = torch.randn(1 + len(inner), VOCABULARY, generator=torch.Generator().manual_seed(seed))
    walk = greedy_walk(trie, logits, inner)
    beginnings = {label[:length]: label for label in labels for length in range(len(label))}
    so_far: tuple[int, ...] = ()
    for token, log_prob in zip(walk.tokens, walk.log_probs, strict=True):
        assert so_far in beginnings  # which has tokens behind it, and so logits after it
        label = beginnings[so_far]
        node = trie.paths[labels.index(label)][len(so_far) - 1] if so_far else None
        after = logits[0 if node is None else 1 + inner.index(node)]
        assert token == int(after.argmax())
        assert log_prob == pytest.approx(float(after.double().log_softmax(0)[token]), abs=1e-6)
        so_far += (token,)
    assert so_far not in beginnings


def asked_beside(naturelm: NatureLM, options: GenerationOptions, labels: Sequence[Sequence[int]]) -> int:
    """Passes through the language model for two clips asked freely and with a closed set of these tokens, after seeing
    that the free answers are those without the set."""
    clips = [clip(0.4, 1), clip(0.7, 2)]
    free = [Query((each,), QUESTION) for each in clips]
    alone = fresh(naturelm).answer(free, options)
    names = tuple(f"label {number}" for number in range(len(labels)))
    tokens = dict(zip(names, map(tuple, labels), strict=True))
    engine = fresh(naturelm)
    original = engine.processor.answer_ids
    passes: list[int] = []
    hook = naturelm.model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    try:
        engine.processor.answer_ids = tokens.__getitem__
        both = engine.answer([*free, *(Query((each,), QUESTION, names) for each in clips)], options)
    finally:
        engine.processor.answer_ids = original
        hook.remove()
    assert_same(both[:2], alone, 1e-5)
    assert [each.finished for each in both[:2]] == [each.finished for each in alone]
    assert [each.probability for each in both[:2]] == pytest.approx(
        [each.probability for each in alone], rel=1e-4
    )
    return len(passes)


def test_free_answers_along_a_trie_are_those_without_one() -> None:
    naturelm = attentive(tiny_naturelm())
    written = [
        answer.token_ids
        for answer in fresh(naturelm).answer(
            [Query((clip(0.4, 1),), QUESTION), Query((clip(0.7, 2),), QUESTION)], SHORT
        )
    ]
    assert written[0] != written[1]
    assert all(len(ids) == SHORT.max_new_tokens for ids in written)
    other = next(token for token in range(20) if all(token not in ids for ids in written))
    whole = asked_beside(naturelm, SHORT, [(*ids, other) for ids in written])
    one_inside = asked_beside(naturelm, SHORT, [(*written[0], other), (other,)])
    halfway = asked_beside(naturelm, SHORT, [(*ids[:3], other) for ids in written])
    outside = asked_beside(naturelm, SHORT, [(other, other), (other, other, other)])
    assert whole < halfway < outside, (whole, halfway, outside)
    assert whole < one_inside


def test_an_answer_that_ends_inside_goes_no_further() -> None:
    naturelm = attentive(tiny_naturelm())
    ids = fresh(naturelm).answer([Query((clip(0.4, 1),), QUESTION)], SHORT)[0].token_ids
    end = next(i for i in range(1, len(ids)) if ids[i] not in ids[:i])
    naturelm.model.language_model.generation_config.eos_token_id = [ids[end]]
    assert asked_beside(naturelm, SHORT, [ids, (*ids[: end + 1], ids[0])])


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ("suppress_tokens", SHORT),
        ("", GenerationOptions(max_new_tokens=6, temperature=1.5)),
        ("", GenerationOptions(max_new_tokens=6, num_beams=2)),
        ("", GenerationOptions(max_new_tokens=1)),
    ],
)
def test_other_ways_of_writing_are_left_alone(setting: str, options: GenerationOptions) -> None:
    naturelm = attentive(tiny_naturelm())
    likeliest = [fresh(naturelm).answer([Query((clip(0.4, 1),), QUESTION)], SHORT)[0].token_ids]
    if setting:
        setattr(naturelm.model.language_model.generation_config, setting, [likeliest[0][1]])
    assert asked_beside(naturelm, options, [(*ids, 3) for ids in likeliest])
