"""What shares a batch changes nothing: not the ids, not the order, hardly the last digits."""

from dataclasses import replace

import pytest
import torch
from asking import SHORT, assert_same, clip, fresh, mixed_queries, query

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions, Query

LABELS = ("Dog", "Dog Rose", "Lazuli Bunting", "Cat")
WAYS = {
    "greedy": replace(SHORT, max_new_tokens=8),
    "beams": replace(SHORT, num_beams=3),
    "sampling": replace(SHORT, temperature=1.0, seed=3),
    "narrow sampling": replace(SHORT, temperature=0.7, top_k=20, top_p=0.9, seed=4),
    "adapter halved": replace(SHORT, merging_alpha=0.5),
}


def one_by_one(naturelm: NatureLM, queries: list[Query], options: GenerationOptions) -> list:
    alone = fresh(naturelm, batch_size=1)
    return [alone.answer([each], options)[0] for each in queries]


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_equals_its_members_alone(either: NatureLM, way: str) -> None:
    queries, options = mixed_queries(16 if way == "greedy" else 9), WAYS[way]
    together = fresh(either, batch_size=8).answer(queries, options)
    assert_same(together, one_by_one(either, queries, options))
    # Were all answers one answer, the test would prove little.
    assert len({a.token_ids for a in together}) > 3


@pytest.mark.parametrize("way", ["greedy", "beams", "sampling"])
def test_batch_size_and_order_change_nothing(naturelm: NatureLM, way: str) -> None:
    queries, options = mixed_queries(10), WAYS[way]
    expected = fresh(naturelm, batch_size=8).answer(queries, options)
    assert_same(fresh(naturelm, batch_size=1).answer(queries, options), expected)
    backwards = fresh(naturelm, batch_size=3).answer(queries[::-1], options)
    assert_same(backwards[::-1], expected)


def test_free_answers_and_closed_sets_share_a_call(either: NatureLM) -> None:
    queries = mixed_queries(9)
    for i, choices in ((1, LABELS), (2, LABELS[::-1]), (4, LABELS), (7, ("Dog",)), (8, LABELS)):
        queries[i] = replace(queries[i], choices=choices)
    together = fresh(either).answer(queries, SHORT)
    assert_same(together, one_by_one(either, queries, SHORT))
    assert [bool(a.choices) for a in together] == [bool(q.choices) for q in queries]
    assert [a.question for a in together] == [q.question for q in queries]


def test_several_clips_in_one_query(either: NatureLM) -> None:
    dog, cat = clip(0.4, seed=1), clip(0.9, seed=2)
    queries = [
        Query((dog, cat), "Which is the dog?"),
        Query((cat, dog), "Which is the dog?"),
        Query((dog, cat), "Is <AudioHere> or rather <AudioHere> the dog?"),
        Query((dog,), "Which is the dog?"),
    ]
    together = fresh(either).answer(queries, SHORT)
    assert_same(together, one_by_one(either, queries, SHORT))
    assert len({a.token_log_probs for a in together}) == 4
    assert [a.recording for a in together] == ["1.wav", "2.wav", "1.wav", "1.wav"]


def test_the_audio_matters(either: NatureLM) -> None:
    one, other = either.answer([query(seed=1), query(seed=2)], SHORT)
    assert one.token_log_probs != pytest.approx(other.token_log_probs, abs=1e-3)


def test_log_probs_are_those_of_the_model(naturelm: NatureLM) -> None:
    """Teacher forcing over the whole prompt, audio heard anew, gives the log probabilities reported."""
    each = query(seconds=0.8, seed=5)
    for options in WAYS.values():
        answer = fresh(naturelm).answer([each], options)[0]
        inputs = naturelm.processor(each.question, [each.clips[0].samples])
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        answered = ids.new_tensor([answer.token_ids])
        inputs["input_ids"] = ids.new_tensor([[*ids[0].tolist(), *answer.token_ids]])
        inputs["attention_mask"] = mask.new_ones(inputs["input_ids"].shape)
        with torch.no_grad(), naturelm.model.merging_alpha(options.merging_alpha):
            logits = naturelm.model(**inputs).logits[:, ids.shape[1] - 1 : -1]
        expected = logits.double().log_softmax(-1).gather(-1, answered.unsqueeze(-1))[0, :, 0]
        assert answer.token_log_probs == pytest.approx(expected.tolist(), abs=1e-4)
        assert answer.probability == pytest.approx(float(expected.sum().exp()), rel=1e-3)


def test_no_queries_no_answers(naturelm: NatureLM) -> None:
    assert naturelm.answer([]) == []
