"""From scores of labels to an answer, one way for every system that scores."""

from collections.abc import Mapping, Sequence

from naturelm.bench.models.base import BenchAnswer, BenchItem
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.errors import NatureLMError

CLASSIFICATION, DETECTION, CAPTIONING = "classification", "detection", "captioning"


class UnanswerableError(NatureLMError):
    """A question that a system has no way to answer, such as a caption asked of a classifier."""


class SystemFault(NatureLMError):
    """A system that cannot be found, opened or asked; its text names the place and the cure."""


def named_labels(item: BenchItem, system: str) -> tuple[str, ...]:
    """The labels of an item that name something: all but `None`.

    system: its name, for the message. Raises UnanswerableError where the data set has no closed set.
    """
    names = tuple(label for label in item.labels if label != NONE_ANSWER)
    if item.task == CAPTIONING or not names:
        raise UnanswerableError(
            f"{item.dataset_name}: {system} chooses among labels, and this data set has no closed set of them"
        )
    return names


def answer_by_scores(item: BenchItem, scores: Mapping[str, float], threshold: float) -> BenchAnswer:
    """The label with the highest score; of a detection every one that reaches the threshold, or `None`.

    scores: of every label but `None`, which is what is said where no label reaches the threshold: a
    classification says so as well where `None` is among its labels. Of equal scores the first label in the
    alphabet wins, so that the order in which labels are offered decides nothing.
    """
    ranked = sorted(scores, key=lambda label: (-scores[label], label))
    passing = [label for label in ranked if scores[label] >= threshold]
    if item.task == DETECTION:
        text = ", ".join(passing) or NONE_ANSWER
    elif not passing and NONE_ANSWER in item.labels:
        text = NONE_ANSWER
    else:
        text = ranked[0]
    return BenchAnswer(text, {label: float(score) for label, score in scores.items()})


def one_each(answers: Sequence[BenchAnswer], batch: Sequence[BenchItem], system: str) -> list[BenchAnswer]:
    """The answers, if they are as many as the items; SystemFault if not."""
    if len(answers) != len(batch):
        raise SystemFault(
            f"{system} gave {len(answers)} answers to {len(batch)} questions; it has to give one to each"
        )
    return list(answers)


def one_line(said: object, most: int = 200) -> str:
    """What an error or a stranger says, on one line and without control signs; its type where that is nothing."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in str(said)[: 4 * most]).split())
    return text[:most] or type(said).__name__
