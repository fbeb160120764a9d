"""Answers of one batch, each by options of its own and followed while they are written."""

from collections import defaultdict

import pytest
from asking import assert_same, mixed_queries, query

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions, Query
from naturelm.errors import QuestionError

OPTIONS = [
    GenerationOptions(max_new_tokens=3),
    GenerationOptions(max_new_tokens=9),
    GenerationOptions(max_new_tokens=7, temperature=1.5, seed=4, top_k=5),
    GenerationOptions(max_new_tokens=5, merging_alpha=0.5),
    GenerationOptions(max_new_tokens=5, num_beams=2),
    GenerationOptions(max_new_tokens=1),
]


class Notes:
    """A watcher that writes down what it is told, and wants some queries no longer than so many tokens."""

    def __init__(self, wanted: dict[int, int] | None = None) -> None:
        self.tokens: defaultdict[int, list[int]] = defaultdict(list)
        self.log_probs: defaultdict[int, list[float]] = defaultdict(list)
        self.wanted = wanted or {}

    def wrote(self, query: int, token: int, log_prob: float) -> None:
        self.tokens[query].append(token)
        self.log_probs[query].append(log_prob)

    def unwanted(self, query: int) -> bool:
        return len(self.tokens[query]) >= self.wanted.get(query, 1000)


def test_options_of_each_query_are_its_own(naturelm: NatureLM) -> None:
    queries = mixed_queries(len(OPTIONS))
    together = naturelm.answer(queries, OPTIONS)
    alone = [naturelm.answer([q], o)[0] for q, o in zip(queries, OPTIONS, strict=True)]
    assert_same(together, alone)
    assert len(together[0].token_ids) <= 3 < len(together[1].token_ids)


def test_an_answer_says_whether_it_came_to_its_end(naturelm: NatureLM) -> None:
    answers = naturelm.answer(mixed_queries(8), GenerationOptions(max_new_tokens=400))
    ends = list(naturelm.processor.end_ids())
    assert [a.finished for a in answers] == [a.token_ids[-1] in ends for a in answers]
    cut = naturelm.answer(mixed_queries(8), GenerationOptions(max_new_tokens=1))
    assert [a.finished for a in cut] == [a.token_ids[-1] in ends for a in cut]
    assert not all(a.finished for a in cut)
    assert naturelm.answer([query("Which?", 0.4, 1, ("Dog", "Cat"))])[0].finished


def test_tokens_are_told_as_they_come(naturelm: NatureLM) -> None:
    notes = Notes()
    queries = [*mixed_queries(3), query("Which?", 0.4, 1, ("Dog", "Cat"))]
    answers = naturelm.answer(queries, GenerationOptions(max_new_tokens=6), notes)
    assert [tuple(notes.tokens[i]) for i in range(4)] == [a.token_ids for a in answers]
    assert [tuple(notes.log_probs[i]) for i in range(4)] == [a.token_log_probs for a in answers]


def test_an_unwanted_answer_is_cut_off_and_the_others_are_not(naturelm: NatureLM) -> None:
    queries, options = mixed_queries(3), GenerationOptions(max_new_tokens=8)
    full = naturelm.answer(queries, options)
    notes = Notes({1: 2})
    cut = naturelm.answer(queries, options, notes)
    assert notes.tokens[1] == list(full[1].token_ids[:2])
    assert_same([cut[0], cut[2]], [full[0], full[2]])


def test_a_question_without_a_recording_is_answered(naturelm: NatureLM) -> None:
    answer = naturelm.answer([Query((), "What is a bird?")], GenerationOptions(max_new_tokens=4))[0]
    assert answer.recording == "" and answer.token_ids
    assert answer.prompt_tokens == len(naturelm.processor.prompt_ids("What is a bird?", []).ids)


def test_as_many_options_as_queries(naturelm: NatureLM) -> None:
    with pytest.raises(QuestionError, match="2 options for 3 queries"):
        naturelm.answer(mixed_queries(3), OPTIONS[:2])
