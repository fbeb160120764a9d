"""What counts as right: case, white space and a full stop never matter, the order of labels neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naturelm.bench.matching import (
    AnswerKind,
    answer_kind,
    choice_match,
    content_words,
    exact_match,
    label_f1,
    normalise,
    split_labels,
    word_f1,
)

LABELS = AnswerKind.LABELS
NAMES = st.text(st.characters(categories=("L",), max_codepoint=0x17F), min_size=1, max_size=8).filter(
    lambda name: normalise(name) not in {"", "none"}
)
LISTS = st.lists(NAMES, max_size=4, unique_by=normalise)


@given(st.text(max_size=20))
def test_normal_text_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(NAMES)
def test_case_space_and_a_full_stop_do_not_matter(name: str) -> None:
    assert exact_match(name, f"  {name.upper().lower()} .\n") == exact_match(name, name.upper().lower())
    assert exact_match(f"{name} owl", f"{name}   OWL.") == 1.0
    assert exact_match(name, f"{name} owl") == 0.0


@given(LISTS, st.randoms(use_true_random=False))
def test_labels_match_in_any_order(labels: list[str], random) -> None:
    other = list(labels)
    random.shuffle(other)
    right, said = (", ".join(of) or "None" for of in (labels, other))
    assert exact_match(right, said, LABELS) == 1.0
    assert label_f1(right, said) == 1.0


@given(LISTS, LISTS)
def test_f1_is_that_of_the_counts_and_symmetrical(right: list[str], said: list[str]) -> None:
    a, b = ", ".join(right) or "None", ", ".join(said) or "None"
    shared = len(split_labels(a) & split_labels(b))
    expected = 1.0 if not right and not said else 2 * shared / (len(right) + len(said))
    assert label_f1(a, b) == pytest.approx(expected) == label_f1(b, a)
    assert (label_f1(a, b) == 1.0) == (exact_match(a, b, LABELS) == 1.0)


@given(st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
def test_word_f1_is_a_share_symmetrical_and_1_for_the_same_words(right: list[str], said: list[str]) -> None:
    a, b = " ".join(right), " ".join(said)
    assert 0 <= word_f1(a, b) <= 1 and word_f1(a, b) == word_f1(b, a)
    assert word_f1(a, " ".join(reversed(right))) == 1.0


def test_known_values() -> None:
    assert label_f1("dog, owl", "owl") == pytest.approx(2 / 3)
    assert label_f1("None", "owl") == label_f1("owl", "none") == 0.0
    assert exact_match("None", "none.", LABELS) == 1.0
    # Nothing written is not the answer `None`.
    assert exact_match("None", "", LABELS) == label_f1("None", "") == 0.0
    assert word_f1("A slow owl calls.", "An owl calls") == pytest.approx(0.8)
    assert word_f1("A dog is heard.", "A cat is heard.") == 0.0
    assert content_words("A three-note owl, the owl") == {"three-note": 1, "owl": 2}


def test_counts_are_right_in_digits_and_in_words() -> None:
    assert exact_match("3", "Three.", AnswerKind.NUMBER) == 1.0
    assert exact_match("3", "13", AnswerKind.NUMBER) == 0.0
    # `One` or `More` is a name: there a digit is not what was asked for.
    assert exact_match("One", "1", answer_kind("one-or-more")) == 0.0


def test_a_choice_is_right_if_it_is_the_answer_or_one_of_its_labels() -> None:
    assert choice_match("Dog", "dog", ("dog",)) == 1.0
    assert choice_match("owl", "dog, owl", ("dog", "owl")) == 1.0
    assert choice_match("None", "None", ()) == 1.0
    assert choice_match("None", "dog, owl", ("dog", "owl")) == choice_match("cat", "dog", ("dog",)) == 0.0
