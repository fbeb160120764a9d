"""What is reached without understanding anything: chance, habit, and plain statistics of the sound."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.models.deciding import DETECTION, UnanswerableError, named_labels
from naturelm.bench.models.sounds import heard
from naturelm.corpus.schema import NONE_ANSWER
from naturelm.corpus.storage import Corpus

_RATE = 16_000  # Hz, of the log-mel statistics


class RandomLabel:
    """One label of the closed set, each as likely; of a detection also `None`.

    What it draws depends on the seed, the data set and the item alone: not on the batch, and not on the order
    of the labels. Its scores are drawn as well, so that measures of ranking have a floor of their own.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    @property
    def info(self) -> ModelInfo:
        """What it is."""
        return ModelInfo(
            "random label", revision=f"seed {self._seed}", note="draws one label of the closed set"
        )

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Raises UnanswerableError for a data set without labels."""
        return [self._answer(item) for item in batch]

    def _answer(self, item: BenchItem) -> BenchAnswer:
        names = named_labels(item, "a random label")
        may_be_none = item.task == DETECTION or NONE_ANSWER in item.labels
        drawn = {
            label: self._draw(item, label) for label in (*names, *((NONE_ANSWER,) if may_be_none else ()))
        }
        said = max(drawn, key=lambda label: (drawn[label], label))
        return BenchAnswer(said, {label: drawn[label] for label in names})

    def _draw(self, item: BenchItem, label: str) -> float:
        """Even in [0, 1)."""
        text = "\0".join((str(self._seed), item.dataset_name, item.id, label))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True)
class Counts:
    """How often something was the right answer."""

    answers: Mapping[str, int]
    """Of whole answers, as they are written."""
    labels: Mapping[str, int]
    """Of the labels in them."""
    rows: int


class MostFrequentLabel:
    """The right answer that is right most often, whatever is heard.

    It is counted on training rows (`from_corpus`) or on the right answers of the suite itself (`from_answers`):
    the latter is no system, since it has seen the answers, but the highest score that ignoring the sound
    reaches. `info` says which of the two it is.
    """

    def __init__(self, counts: Mapping[str, Counts], origin: str) -> None:
        """counts: by data set. origin: what was counted, for `info`."""
        self._counts = counts
        self._origin = origin

    @classmethod
    def from_answers(cls, answers: Iterable[tuple[str, str]]) -> "MostFrequentLabel":
        """answers: data set and right answer of each row of the suite."""
        return cls(_counted(answers), "the suite's own right answers")

    @classmethod
    def from_corpus(cls, folder: Path | str) -> "MostFrequentLabel":
        """Of the training rows of a corpus; a data set's are those of its task and of its fauna, real or invented.

        Raises CorpusError where the folder is no corpus, or has no training or no held-out rows.
        """
        from naturelm.bench.components import read_rows

        kinds = {row.component: (row.task, row.invented) for row in read_rows(Corpus(folder, "test"))}
        by_kind: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for row in read_rows(Corpus(folder, "train")):
            by_kind[row.task, row.invented].append(row.answer)
        pairs = ((name, answer) for name, kind in kinds.items() for answer in by_kind.get(kind, ()))
        return cls(_counted(pairs), f"the training rows of {Path(folder).name}")

    @property
    def info(self) -> ModelInfo:
        """What it is, and what it was counted on."""
        return ModelInfo("most frequent label", note=f"counted on {self._origin}")

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Raises UnanswerableError for a data set that nothing was counted of."""
        return [self._answer(item) for item in batch]

    def _answer(self, item: BenchItem) -> BenchAnswer:
        counts = self._counts.get(item.dataset_name)
        if counts is None or not counts.rows:
            raise UnanswerableError(f"{item.dataset_name}: {self._origin} have no row of it")
        if not item.labels:
            return BenchAnswer(_most_frequent(counts.answers, counts.answers))
        # An answer of training that the data set does not know would be wrong for certain.
        known = {*item.labels, NONE_ANSWER}
        offered = counts.answers if item.task == DETECTION else item.labels
        possible = [answer for answer in offered if set(answer.split(", ")) <= known or answer in known]
        said = _most_frequent(possible or item.labels, counts.answers)
        names = [label for label in item.labels if label != NONE_ANSWER]
        return BenchAnswer(said, {label: counts.labels.get(label, 0) / counts.rows for label in names})


class LogMelFloor:
    """Log-mel statistics and logistic regression, trained on the training rows of a corpus.

    A data set's classifier is trained on the rows of its task and its fauna, when the first of its items comes.
    See `naturelm.bench.baseline`.
    """

    def __init__(self, folder: Path | str) -> None:
        """Raises CorpusError where the folder is no corpus, or has no training or no held-out rows."""
        from naturelm.bench.baseline import PlainBaseline

        self._folder = Path(folder)
        self._baseline = PlainBaseline(folder)
        self._test = Corpus(folder, "test")

    @property
    def info(self) -> ModelInfo:
        """What it is, and what it was trained on."""
        return ModelInfo(
            "log-mel + logistic regression", note=f"trained on the training rows of {self._folder.name}"
        )

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        """Raises UnanswerableError for a data set whose task has no training rows, or asks for sentences."""
        return [self._answer(item) for item in batch]

    def _answer(self, item: BenchItem) -> BenchAnswer:
        from naturelm.bench.classifiers import PresenceClassifier
        from naturelm.bench.features import log_mel_statistics

        kind = self._kinds.get(item.dataset_name)
        classifier = self._baseline.classifier(*kind) if kind else None
        if classifier is None:
            raise UnanswerableError(
                f"{item.dataset_name}: {self._folder} has no training rows of its kind; "
                "this floor needs a corpus that has a train split"
            )
        features = np.stack([log_mel_statistics(heard(item, _RATE))])
        names = [label for label in item.labels if label != NONE_ANSWER]
        scores = classifier.label_scores(features, [names])[0] if names else None
        if isinstance(classifier, PresenceClassifier):
            (said,) = classifier.write(features, [self._options.get(item.id, ()) or names])
        elif item.labels:
            (said,) = classifier.choose(features, [item.labels])
        else:
            (said,) = classifier.write(features)
        return BenchAnswer(said, scores)

    @cached_property
    def _kinds(self) -> dict[str, tuple[str, bool]]:
        """Task and fauna of each data set."""
        from naturelm.bench.components import read_rows

        return {row.component: (row.task, row.invented) for row in read_rows(self._test)}

    @cached_property
    def _options(self) -> dict[str, tuple[str, ...]]:
        """What the question of each held-out row offers."""
        from naturelm.bench.components import read_rows

        return {row.id: row.options for row in read_rows(self._test)}


def _counted(pairs: Iterable[tuple[str, str]]) -> dict[str, Counts]:
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, answer in pairs:
        by_name[name].append(answer.strip())
    return {
        name: Counts(
            Counter(answers),
            # A label that holds a comma itself is an answer of one label as well as one of several.
            Counter(label for answer in answers for label in {answer, *answer.split(", ")}),
            len(answers),
        )
        for name, answers in by_name.items()
    }


def _most_frequent(labels: Iterable[str], counts: Mapping[str, int]) -> str:
    return min(labels, key=lambda label: (-counts.get(label, 0), label))
