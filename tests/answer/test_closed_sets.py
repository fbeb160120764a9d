"""Closed sets: the scores are those of scoring label by label, and the choices are checked."""

import pytest
import torch
from asking import QUESTION, clip, fresh, one_line, query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.answer import branching
from naturelm.answer.engine import NatureLM
from naturelm.answer.results import NONE_OF_THESE, Answer, Clip, Query
from naturelm.errors import QuestionError
from tiny import noise

SPECIES = (
    "Lazuli Bunting",
    "Lazuli",
    "Lazuli Bunting male",
    "Dog",
    "Doggo",
    "D",
    "Cat",
    "the cat",
    "Örtli's 7 cats",
)


def label_by_label(naturelm: NatureLM, asked: Query, labels: tuple[str, ...]) -> list[tuple[float, int]]:
    """Log likelihood and tokens of each label by the joint model's own forward, the sound heard each time."""
    found = []
    for label in labels:
        batch = naturelm.processor(asked.question, [[c.samples for c in asked.clips]], answers=[label])
        with torch.no_grad():
            logits = naturelm.model(**batch).logits.double()
        tokens = batch["labels"][batch["labels"] != -100]
        found.append((float(logits.log_softmax(-1).gather(1, tokens.unsqueeze(1)).sum()), len(tokens)))
    return found


def assert_scored_alone(naturelm: NatureLM, asked: Query, answer: Answer, tolerance: float = 1e-5) -> None:
    """`tolerance` is for a token: the sums are float64, the model and each token's log probability float32."""
    scores = {choice.label: choice.log_likelihood for choice in answer.choices}
    texts = tuple("None" if label == NONE_OF_THESE else label for label in asked.choices)
    alone = label_by_label(naturelm, asked, texts)
    for label, (expected, tokens) in zip(asked.choices, alone, strict=True):
        assert abs(scores[label] - expected) < tolerance * tokens, label
    total = torch.tensor([score for score, _ in alone], dtype=torch.float64).softmax(0)
    by_label = {choice.label: choice.probability for choice in answer.choices}
    assert [by_label[label] for label in asked.choices] == pytest.approx(total.tolist(), abs=1e-4)


def test_scores_equal_scoring_label_by_label(either: NatureLM) -> None:
    asked = query(seconds=0.7, choices=SPECIES)
    (answer,) = either.answer([asked])
    assert_scored_alone(either, asked, answer)


def test_two_hundred_labels_in_several_tries(naturelm: NatureLM, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = tuple(
        f"{a} {b} {c}" for a in ("Dog", "Cat", "Lazuli", "Grey", "Red") for b in "abcdefgh" for c in "vwxyz"
    )
    asked = query(seconds=0.3, choices=labels)
    (whole,) = naturelm.answer([asked])
    # No public way: the limit is memory for logits, which a tiny vocabulary never comes near.
    monkeypatch.setattr(branching, "_MAX_TRIE_LOGITS", 40 * 300)
    (split,) = fresh(naturelm).answer([asked])
    expected = {choice.label: choice.log_likelihood for choice in whole.choices}
    for choice in split.choices:
        assert choice.log_likelihood == pytest.approx(expected[choice.label], abs=1e-4)
    few = tuple(labels[::40])
    for label, (score, tokens) in zip(few, label_by_label(naturelm, asked, few), strict=True):
        assert abs(expected[label] - score) < 1e-5 * tokens


def test_many_kinds_of_question_in_one_call(either: NatureLM) -> None:
    asked = [
        query("Dog?", 0.3, 1, ("Yes", "No")),
        query(QUESTION, 0.9, 2, SPECIES),
        query("Dog or what else is it?", 0.5, 3, ("Yes", "No")),
        query("What?", 0.2, 4),
        query(QUESTION, 0.4, 5, SPECIES),
    ]
    answers = either.answer(asked)
    for one, answer in zip(asked, answers, strict=True):
        assert bool(one.choices) == bool(answer.choices)
        if one.choices:
            assert_scored_alone(either, one, answer)


def test_two_clips_and_a_closed_set(naturelm: NatureLM) -> None:
    asked = Query(
        (clip(0.4, 1), clip(0.8, 2)), "Which is <AudioHere> and which <AudioHere>?", ("Dog", "Dog, Cat")
    )
    (answer,) = naturelm.answer([asked])
    assert_scored_alone(naturelm, asked, answer)


def test_none_of_these_is_scored_as_the_word_of_the_training_data(naturelm: NatureLM) -> None:
    answer = naturelm.ask(noise(0.5), QUESTION, choices=["Dog", "Cat"], none_of_these=True)
    assert {choice.label for choice in answer.choices} == {"Dog", "Cat", "None of these"}
    asked = Query((Clip(noise(0.5)),), QUESTION, ("Dog", "Cat", NONE_OF_THESE))
    assert_scored_alone(naturelm, asked, answer)


def test_best_first_and_the_answer_is_the_best(naturelm: NatureLM) -> None:
    answer = naturelm.ask(noise(0.5), QUESTION, choices=SPECIES)
    scores = [choice.log_likelihood for choice in answer.choices]
    assert scores == sorted(scores, reverse=True)
    assert (answer.text, answer.probability) == (answer.choices[0].label, answer.choices[0].probability)
    assert answer.token_ids == answer.token_log_probs == ()


LABEL_SETS = st.lists(
    st.text("abDog C't1é", min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LABEL_SETS, st.randoms(use_true_random=False))
def test_probabilities_sum_to_one_in_any_order(naturelm: NatureLM, labels: list[str], random: object) -> None:
    first = naturelm.ask(noise(0.3), "Dog?", choices=labels)
    assert sum(choice.probability for choice in first.choices) == pytest.approx(1.0, abs=1e-9)
    shuffled = list(labels)
    random.shuffle(shuffled)
    second = naturelm.ask(noise(0.3), "Dog?", choices=shuffled)
    expected = {choice.label: choice.probability for choice in first.choices}
    assert {choice.label: choice.probability for choice in second.choices} == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize(
    ("choices", "none_of_these", "words"),
    [
        ([], False, "empty"),
        ([], True, "empty"),
        (["Dog", " "], False, "choice 2 of 2"),
        (["Dog", "Cat", " Dog "], False, "'Dog'"),
        (["Dog", "None of these"], True, "'None of these'"),
        # Both would be scored as the one word, and share the probability that one of them has.
        (["Dog", "None"], True, "'None'"),
        # A string is a sequence of letters, and never what was meant.
        ("Dog", False, "list"),
    ],
)
def test_choices_that_cannot_be(
    naturelm: NatureLM, choices: list[str], none_of_these: bool, words: str
) -> None:
    with pytest.raises(QuestionError) as error:
        naturelm.ask(noise(0.3), "Dog?", choices=choices, none_of_these=none_of_these)
    assert words in one_line(error)


def test_labels_are_taken_without_outer_white_space(naturelm: NatureLM) -> None:
    answer = naturelm.ask(noise(0.3), "Dog?", choices=[" Dog\n", "Cat"])
    assert {choice.label for choice in answer.choices} == {"Dog", "Cat"}
