"""An answer against the right one: equal after normalisation, as sets of labels, word by word."""

import re
from collections import Counter
from collections.abc import Sequence
from enum import Enum

from naturelm.corpus.schema import NONE_ANSWER

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_SEPARATORS = re.compile(r"[,;\n]")
_WORD = re.compile(r"\w[\w'’-]*")
_FUNCTION_WORDS = frozenset(
    {
        "a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "hear", "heard", "in", "is", "it",
        "its", "of", "on", "or", "that", "the", "there", "this", "to", "was", "with",
    }
)  # fmt: skip
"""Words that every caption has, so that they tell nothing; `heard` and `hear` among them."""


class AnswerKind(Enum):
    """What an answer is made of, which decides how it is scored."""

    NAME = "name"
    """One label: right or wrong."""
    NUMBER = "number"
    """A count, in digits or as a word."""
    LABELS = "labels"
    """Any number of labels, in any order, or `None`."""
    TEXT = "text"
    """A sentence."""


_KINDS = {
    "detection": AnswerKind.LABELS,
    "detection-options": AnswerKind.LABELS,
    "species-several": AnswerKind.LABELS,
    "caption": AnswerKind.TEXT,
    "transcript": AnswerKind.TEXT,
    "count": AnswerKind.NUMBER,
    "speaker-count": AnswerKind.NUMBER,
}


def answer_kind(task: str) -> AnswerKind:
    """What the answers of a task are made of; an archive's own tasks are taken for names."""
    return _KINDS.get(task, AnswerKind.NAME)


def normalise(text: str) -> str:
    """The text in lower case, single spaces between words, no full stop at the end."""
    return " ".join(text.casefold().split()).rstrip(". ")


def split_labels(text: str) -> frozenset[str]:
    """The normalised labels of a list with commas; empty for `None` and for no text."""
    labels = {normalise(part) for part in _SEPARATORS.split(text)}
    return frozenset(labels - {"", normalise(NONE_ANSWER)})


def exact_match(answer: str, written: str, kind: AnswerKind = AnswerKind.NAME) -> float:
    """1 where the written answer is the right one, else 0.

    Labels match as sets. A count matches in digits or as a word. Nothing written is no match for `None`: it has
    to be said.
    """
    if kind is AnswerKind.LABELS:
        return float(bool(normalise(written)) and split_labels(answer) == split_labels(written))
    if kind is AnswerKind.NUMBER:
        return float(_number(answer) == _number(written))
    return float(normalise(answer) == normalise(written))


def label_f1(answer: str, written: str) -> float:
    """F1 of the written labels: 1 for `None` where it is right, 0 where one of the two is `None`."""
    right, said = split_labels(answer), split_labels(written)
    if not right or not said:
        return exact_match(answer, written, AnswerKind.LABELS)
    return 2 * len(right & said) / (len(right) + len(said))


def word_f1(answer: str, written: str) -> float:
    """F1 of the content words, counted with repetition: words such as `a` and `is` are left out.

    0 where one of the two has no content word, 1 where neither has.
    """
    right, said = content_words(answer), content_words(written)
    if not right or not said:
        return float(not right and not said)
    return 2 * (right & said).total() / (right.total() + said.total())


def content_words(text: str) -> Counter[str]:
    """Words that carry meaning, in lower case; a word with hyphens is one."""
    return Counter(word for word in _WORD.findall(text.casefold()) if word not in _FUNCTION_WORDS)


def choice_match(choice: str, answer: str, labels: Sequence[str]) -> float:
    """1 where the chosen label is right: the answer itself, or one of its labels where it has several."""
    return float(normalise(choice) in {normalise(answer), *map(normalise, labels)})


def _number(text: str) -> str:
    text = normalise(text)
    return _NUMBERS.get(text, text)
