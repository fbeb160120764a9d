"""Every row ends at its own end token, and at nothing else.

In Llama 3's vocabulary id 2 is '#': a batch once ended as soon as its first row wrote one.
"""

from dataclasses import replace

import pytest
import torch
from asking import SHORT, assert_same, attentive, fresh, mixed_queries

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Answer, Query
from tiny import tiny_model, tiny_naturelm

NEVER = 299
LONG = replace(SHORT, max_new_tokens=12)
BEAMS = replace(LONG, num_beams=3)


def swap_words(naturelm: NatureLM, one: int, other: int) -> None:
    """The model writes `one` where it wrote `other`; its output head is its own, so nothing else changes."""
    with torch.no_grad():
        head = naturelm.model.get_output_embeddings().weight
        head[[one, other]] = head[[other, one]]


def end_at(naturelm: NatureLM, *ids: int) -> None:
    naturelm.model.generation_config.eos_token_id = list(ids)


@pytest.fixture
def endless() -> tuple[NatureLM, list[Query], list[Answer]]:
    """A model that never ends, six queries, and its answers to them."""
    naturelm = attentive(tiny_naturelm())
    end_at(naturelm, NEVER)
    queries = mixed_queries(6)
    answers = naturelm.answer(queries, LONG)
    assert NEVER not in {token for a in answers for token in a.token_ids}
    return naturelm, queries, answers


@pytest.mark.parametrize("first", range(3))
def test_id_two_is_an_ordinary_word(endless: tuple[NatureLM, list[Query], list[Answer]], first: int) -> None:
    """The first row writes id 2 at once, and every row goes on to the end, as it would alone."""
    naturelm, queries, answers = endless
    swap_words(naturelm, 2, answers[first].token_ids[0])
    rows = [queries[first], *queries[:first], *queries[first + 1 :]]
    for options in (LONG, BEAMS):
        found = naturelm.answer(rows, options)
        assert [len(a.token_ids) for a in found] == [12] * len(rows)
        assert_same(found, [fresh(naturelm).answer([each], options)[0] for each in rows])
        if options is LONG:
            assert found[0].token_ids[0] == 2


def test_rows_end_each_at_its_own_end(endless: tuple[NatureLM, list[Query], list[Answer]]) -> None:
    naturelm, queries, answers = endless
    # An end that some rows write, at unlike places, and one does not.
    tokens = sorted({token for a in answers for token in a.token_ids})
    places = {t: [a.token_ids.index(t) if t in a.token_ids else None for a in answers] for t in tokens}
    end = max(tokens, key=lambda t: (None in places[t]) * (len(set(places[t])), -tokens.index(t))[0])
    assert None in places[end]
    assert len(set(places[end])) >= 3
    end_at(naturelm, NEVER, end)
    found = naturelm.answer(queries, LONG)
    for answer, endless_answer, place in zip(found, answers, places[end], strict=True):
        length = 12 if place is None else place + 1
        assert answer.token_ids == endless_answer.token_ids[:length]
        assert answer.token_log_probs == pytest.approx(endless_answer.token_log_probs[:length], abs=1e-4)
        assert len(answer.token_log_probs) == length
        expected = torch.tensor(endless_answer.token_log_probs[:length]).double().sum().exp()
        assert answer.probability == pytest.approx(float(expected), rel=1e-3)
        assert answer.text == naturelm.processor.decode_answer(answer.token_ids)
        if place is not None and place < 11:
            assert len(answer.text) < len(endless_answer.text)


def test_an_answer_that_ends_at_once_is_empty(endless: tuple[NatureLM, list[Query], list[Answer]]) -> None:
    naturelm, queries, answers = endless
    swap_words(naturelm, 2, answers[0].token_ids[0])
    end_at(naturelm, 2)
    found = naturelm.answer(queries[:1], LONG)[0]
    assert (found.text, found.token_ids) == ("", (2,))


def test_beams_end_each_at_its_own_end(endless: tuple[NatureLM, list[Query], list[Answer]]) -> None:
    naturelm, queries, answers = endless
    end_at(naturelm, *answers[0].token_ids[2:4], answers[1].token_ids[5])
    found = naturelm.answer(queries, BEAMS)
    assert_same(found, [fresh(naturelm).answer([each], BEAMS)[0] for each in queries])
    assert len({len(a.token_ids) for a in found}) > 1
    for answer in found:
        assert len(answer.token_log_probs) == len(answer.token_ids)
        assert all(log_prob < 0 for log_prob in answer.token_log_probs)


@pytest.mark.parametrize("eos", [2, [2, 5], None])
def test_transformers_ways_to_say_where_to_end(eos: int | list[int] | None) -> None:
    model = tiny_model()
    naturelm = NatureLM(model, tiny_naturelm().processor)
    model.generation_config.eos_token_id = eos
    answers = naturelm.answer(mixed_queries(3), LONG)
    ends = {eos} if isinstance(eos, int) else set(eos or ())
    for answer in answers:
        assert not ends & set(answer.token_ids[:-1])
        assert len(answer.token_ids) == 12 or answer.token_ids[-1] in ends
