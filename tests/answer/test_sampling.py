"""Sampling: seeded, from the model's own distribution, and what the options allow."""

from dataclasses import replace

import pytest
import torch
from asking import SHORT, assert_same, mixed_queries, one_line, query

from naturelm.answer.choosing import TokenChooser
from naturelm.answer.engine import NatureLM
from naturelm.answer.results import GenerationOptions
from naturelm.errors import QuestionError

SAMPLED = replace(SHORT, temperature=1.0, seed=1)


def test_a_seed_repeats_and_another_draws_anew(naturelm: NatureLM) -> None:
    queries = mixed_queries(6)
    first = naturelm.answer(queries, SAMPLED)
    assert_same(naturelm.answer(queries, SAMPLED), first)
    other = naturelm.answer(queries, replace(SAMPLED, seed=2))
    assert sum(a.token_ids != b.token_ids for a, b in zip(first, other, strict=True)) >= 5


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}])
def test_the_narrowest_sampling_is_greedy(naturelm: NatureLM, narrow: dict[str, float]) -> None:
    queries = mixed_queries(6)
    greedy = naturelm.answer(queries, SHORT)
    assert_same(naturelm.answer(queries, replace(SAMPLED, **narrow)), greedy)
    assert any(
        a.token_ids != b.token_ids for a, b in zip(naturelm.answer(queries, SAMPLED), greedy, strict=True)
    )


def drawn_frequencies(scores: torch.Tensor, draws: int = 3000, **changes: float) -> torch.Tensor:
    """Share of each token among draws with as many seeds."""
    options = GenerationOptions(**{"temperature": 1.0, **changes})
    generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
    chooser = TokenChooser([options] * draws, generators, torch.device("cpu"))
    chosen = chooser(torch.zeros(draws, 1, dtype=torch.long), scores.expand(draws, -1)).argmax(-1)
    return chosen.bincount(minlength=len(scores)) / draws


def assert_drawn_from(found: torch.Tensor, expected: torch.Tensor, draws: int) -> None:
    """Chi-square over tokens that should come up; five standard deviations above its mean is the bound."""
    assert found[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = draws * ((found - expected)[likely] ** 2 / expected[likely]).sum()
    freedom = int(likely.sum()) - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5 + 1


SCORES = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    found = drawn_frequencies(SCORES, temperature=temperature)
    assert_drawn_from(found, (SCORES / temperature).softmax(-1), 3000)


def test_draws_follow_the_softmax_of_what_is_kept() -> None:
    kept = SCORES.masked_fill(torch.arange(8) >= 3, -torch.inf).softmax(-1)
    assert_drawn_from(drawn_frequencies(SCORES, top_k=3), kept, 3000)
    # The three likeliest hold 0.78: at 0.75 the third is needed, at 0.8 the fourth too.
    assert_drawn_from(drawn_frequencies(SCORES, top_p=0.75), kept, 3000)
    assert (drawn_frequencies(SCORES, top_p=0.8) > 0).tolist() == [True] * 4 + [False] * 4
    assert_drawn_from(drawn_frequencies(SCORES, top_k=100), SCORES.softmax(-1), 3000)


def test_first_tokens_of_the_model_follow_its_softmax(naturelm: NatureLM) -> None:
    """Through the whole engine: 100 seeds among the model's three likeliest tokens."""
    first = GenerationOptions(max_new_tokens=1, temperature=1.0, top_k=3)
    answers = [naturelm.answer([query()], replace(first, seed=seed))[0] for seed in range(100)]
    log_probs = {a.token_ids[0]: a.token_log_probs[0] for a in answers}
    assert len(log_probs) == 3
    expected = torch.tensor(list(log_probs.values())).softmax(-1)
    found = torch.tensor([sum(a.token_ids[0] == token for a in answers) for token in log_probs]) / len(
        answers
    )
    assert_drawn_from(found, expected, len(answers))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 0}, "num_beams"),
        ({"top_k": -1}, "top_k"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"num_beams": 2, "temperature": 1.0}, "exclude"),
        ({"merging_alpha": float("nan")}, "merging_alpha"),
        ({"merging_alpha": float("inf")}, "merging_alpha"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(QuestionError) as error:
        GenerationOptions(**wrong)
    assert word in one_line(error)
