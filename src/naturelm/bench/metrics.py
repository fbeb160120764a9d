"""What is measured of a component: which marks its rows get, by the kind of their answers."""

from collections.abc import Callable
from dataclasses import dataclass

from naturelm.bench.components import Component, Row
from naturelm.bench.matching import AnswerKind, choice_match, exact_match, label_f1, word_f1

Mark = Callable[[Row, str], float]


@dataclass(frozen=True)
class Metric:
    """A mark between 0 and 1 of one answer to one row; a component's value is the mean of its rows'."""

    name: str
    mark: Mark
    closed: bool = False
    """Whether it marks the likeliest label of the closed set, and not what was written."""


EXACT = Metric("exact", lambda row, written: exact_match(row.answer, written, row.kind))
LABEL_F1 = Metric("f1", lambda row, written: label_f1(row.answer, written))
WORD_F1 = Metric("word_f1", lambda row, written: word_f1(row.answer, written))
CHOICE = Metric("choice", lambda row, choice: choice_match(choice, row.answer, row.labels), closed=True)


def metrics_of(component: Component) -> tuple[Metric, ...]:
    """The metrics of a component.

    `exact` match of all but sentences; `f1` of sets of labels; `word_f1` of sentences, and of names that
    are composed (all of one number of words, two or more), where a part may be right; `choice` accuracy
    where there is a closed set.
    """
    closed = (CHOICE,) if any(component.choices(row) for row in component.rows) else ()
    if component.kind is AnswerKind.TEXT:
        return (WORD_F1,)
    if component.kind is AnswerKind.LABELS:
        return (EXACT, LABEL_F1, *closed)
    widths = {len(label.split()) for label in component.labels}
    composed = len(widths) == 1 and widths.pop() > 1
    return (EXACT, *((WORD_F1,) if composed else ()), *closed)
