"""The plain baseline: what log-mel statistics and logistic regression make of the same rows.

It is trained on the training rows of each task, those about the invented fauna and the others apart, as the
wording of the questions tells them apart. Sentences are beyond it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from naturelm.bench.asking import Given
from naturelm.bench.classifiers import Matrix, NameClassifier, PresenceClassifier
from naturelm.bench.components import Component, Row, read_rows, spread
from naturelm.bench.features import log_mel_statistics
from naturelm.bench.matching import AnswerKind, label_f1
from naturelm.corpus.storage import Corpus, decode
from naturelm.errors import AudioError

MOST_ROWS = 6000
"""Training rows of one classifier: more make it slower and hardly better."""


class PlainBaseline:
    """Classifiers of one corpus, trained when a task is first asked for, and kept; so are all features."""

    def __init__(self, folder: Path | str, *, most_rows: int = MOST_ROWS) -> None:
        """Raises CorpusError where the folder has no training rows."""
        self._training = Corpus(folder, "train")
        self._rows = read_rows(self._training)
        self._most_rows = most_rows
        self._features: dict[tuple[str, str], Matrix | str] = {}
        self._fitted: dict[tuple[str, bool], NameClassifier | PresenceClassifier | None] = {}

    def answer(self, corpus: Corpus, component: Component, *, choices: bool = True) -> list[Given] | None:
        """Its answers to all rows of a component, in order; None where it has none to give.

        choices: choose from closed sets as well as write. A row that cannot be read has its error.
        """
        given: dict[str, Given] = {}
        for invented in (False, True):
            rows = [row for row in component.rows if row.invented is invented]
            classifier = self.classifier(component.task, invented) if rows else None
            if rows and classifier is None:
                return None
            if classifier is not None:
                given |= self._answer(classifier, corpus, component, rows, choices)
        return [given[row.id] for row in component.rows]

    def _answer(
        self,
        classifier: NameClassifier | PresenceClassifier,
        corpus: Corpus,
        component: Component,
        rows: Sequence[Row],
        choices: bool,
    ) -> dict[str, Given]:
        found = {row.id: self._features_of(corpus, row) for row in rows}
        given = {row.id: Given(row, error=str(of)) for row in rows if isinstance(of := found[row.id], str)}
        rows = [row for row in rows if row.id not in given]
        if not rows:
            return given
        features = np.stack([found[row.id] for row in rows])
        if isinstance(classifier, PresenceClassifier):
            written = classifier.write(features, [row.options for row in rows])
        else:
            written = classifier.write(features)
        sets = [component.choices(row) if choices else () for row in rows]
        chosen = classifier.choose(features, sets)
        return given | {
            row.id: Given(row, text, choice if of else "")
            for row, text, choice, of in zip(rows, written, chosen, sets, strict=True)
        }

    def classifier(self, task: str, invented: bool) -> NameClassifier | PresenceClassifier | None:
        """The classifier of a task's rows, about the invented fauna or not; None where none can be trained."""
        key = (task, invented)
        if key not in self._fitted:
            self._fitted[key] = self._fit(
                [row for row in self._rows if row.task == task and row.invented is invented]
            )
        return self._fitted[key]

    def _fit(self, rows: Sequence[Row]) -> NameClassifier | PresenceClassifier | None:
        if not rows or rows[0].kind is AnswerKind.TEXT:
            return None
        found = [(row, self._features_of(self._training, row)) for row in spread(rows, self._most_rows)]
        usable = [(row, of) for row, of in found if not isinstance(of, str)]
        if not usable:
            return None
        rows = [row for row, _ in usable]
        features = np.stack([of for _, of in usable])
        if rows[0].kind is not AnswerKind.LABELS:
            return NameClassifier(features, [row.answer for row in rows])
        if len(rows) < 2 or not any(row.heard for row in rows):
            return None
        return PresenceClassifier(
            features,
            [row.heard for row in rows],
            [row.answer for row in rows],
            [row.options for row in rows],
            label_f1,
        )

    def _features_of(self, corpus: Corpus, row: Row) -> Matrix | str:
        """(FEATURES,) of a row's clip, or why it has none."""
        key = (corpus.split, row.id)
        if key not in self._features:
            try:
                self._features[key] = log_mel_statistics(decode(corpus[row.number]))
            except AudioError as error:
                self._features[key] = str(error)
        return self._features[key]
