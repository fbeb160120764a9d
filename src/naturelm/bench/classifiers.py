"""Plain classifiers of answers: logistic regression, one for every word position where all labels have as many.

A label of five words, each one of a few, may be right though it was never given in training; a classifier over
whole labels can only repeat. Labels are compared in lower case, as they are scored.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from naturelm.bench.matching import normalise
from naturelm.corpus.schema import NONE_ANSWER

Matrix = npt.NDArray[np.float32]
WordScores = Sequence[Mapping[str, float]]
"""Of one row: for each word position the log probability of each word that training has there."""
# Of 0.0001 to 0.1 what served it best on the unseen names and crops of the starter corpus: in its favour.
_INVERSE_PENALTY = 0.1
_ITERATIONS = 200
_COMPONENTS = 256
"""With these a classifier is as often right as with all features, and trained four times as fast."""
_LEAST_PROBABILITY = 1e-6
"""Of a word that training does not have, and the least of any."""
_LEAST = float(np.log(_LEAST_PROBABILITY))
_TUNED_ON = 4
"""Every so many training rows, one is kept apart to tune the threshold on."""
_THRESHOLDS = 40


class NameClassifier:
    """One label of many: the words of a position exclude each other, and positions are independent."""

    def __init__(self, features: Matrix, answers: Sequence[str]) -> None:
        """Train on (rows, features) and the answer of each row."""
        self._scale = _Scale(features)
        self._width = _fixed_width(answers)
        words = [_words(answer, self._width) for answer in answers]
        scaled = self._scale(features)
        self._positions = [_fit_exclusive(scaled, of) for of in zip(*words, strict=True)]

    def write(self, features: Matrix) -> list[str]:
        """The likeliest answer of each row, composed of the likeliest word at each position."""
        return [" ".join(max(of, key=of.__getitem__) for of in row) for row in self._scores(features)]

    def choose(self, features: Matrix, choices: Sequence[Sequence[str]]) -> list[str]:
        """The likeliest of each row's own choices; empty text where it has none."""
        return [
            _likeliest(labels, row, self._width)[0] if labels else ""
            for labels, row in zip(choices, self._scores(features), strict=True)
        ]

    def label_scores(self, features: Matrix, labels: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Probability of each of a row's own labels, one of which is taken to be right."""
        return [
            _shares({label: _label_score(label, row, self._width) * len(row) for label in of})
            for of, row in zip(labels, self._scores(features), strict=True)
        ]

    def _scores(self, features: Matrix) -> list[WordScores]:
        scaled = self._scale(features)
        by_position = [position(scaled) for position in self._positions]
        return list(zip(*by_position, strict=True))


class PresenceClassifier:
    """Any number of labels: one word against the rest, and `None` where nothing passes a threshold.

    The threshold is tuned on a quarter of the training rows by a classifier that has not seen them.
    """

    def __init__(
        self,
        features: Matrix,
        heard: Sequence[Sequence[str]],
        answers: Sequence[str],
        options: Sequence[Sequence[str]],
        mark: Callable[[str, str], float],
    ) -> None:
        """Train on (rows, features).

        heard: the labels that each clip holds, asked for or not; answers, options: of each row's question.
        mark: between 0 and 1, of a right answer and a written one; its mean is what the threshold is best for.
        """
        self._width = _fixed_width([label for of in heard for label in of])
        self._threshold = _LEAST
        apart = np.arange(len(features)) % _TUNED_ON == 0
        if apart.all() or not any(heard):
            raise ValueError("presence needs at least two rows, and a label in one of them")
        self._fit(features[~apart], [of for of, out in zip(heard, apart, strict=True) if not out])
        tuning = [
            (row, answers[place], options[place])
            for row, place in zip(self._scores(features[apart]), np.flatnonzero(apart).tolist(), strict=True)
        ]

        def value(threshold: float) -> float:
            return sum(mark(right, self._name(row, offered, threshold)) for row, right, offered in tuning)

        # Probabilities from 0.001 to 0.97, evenly spread on the logistic scale.
        candidates = -np.log1p(np.exp(-np.linspace(-7, 3.5, _THRESHOLDS)))
        self._threshold = float(max(candidates, key=value))
        self._fit(features, heard)

    def write(self, features: Matrix, options: Sequence[Sequence[str]]) -> list[str]:
        """The labels of each row, joined by commas, or `None`: of its options if it has some."""
        return [
            self._name(row, offered, self._threshold)
            for row, offered in zip(self._scores(features), options, strict=True)
        ]

    def choose(self, features: Matrix, choices: Sequence[Sequence[str]]) -> list[str]:
        """The likeliest of each row's choices, or `None` where it is offered and no other passes the threshold."""
        chosen = []
        for row, labels in zip(self._scores(features), choices, strict=True):
            names = [label for label in labels if label != NONE_ANSWER]
            best, score = _likeliest(names, row, self._width) if names else ("", -np.inf)
            chosen.append(NONE_ANSWER if NONE_ANSWER in labels and score < self._threshold else best)
        return chosen

    def label_scores(self, features: Matrix, labels: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Probability that each of a row's own labels is heard: the geometric mean over its words."""
        return [
            {label: float(np.exp(_label_score(label, row, self._width))) for label in of}
            for of, row in zip(labels, self._scores(features), strict=True)
        ]

    def _fit(self, features: Matrix, heard: Sequence[Sequence[str]]) -> None:
        self._scale = _Scale(features)
        scaled = self._scale(features)
        words = [[_words(label, self._width) for label in of] for of in heard]
        self._positions = [
            _fit_presence(scaled, [{label[place] for label in of} for of in words])
            for place in range(self._width)
        ]

    def _scores(self, features: Matrix) -> list[WordScores]:
        scaled = self._scale(features)
        return list(zip(*[position(scaled) for position in self._positions], strict=True))

    def _name(self, row: WordScores, options: Sequence[str], threshold: float) -> str:
        if options:
            names = [label for label in options if _label_score(label, row, self._width) >= threshold]
        else:
            names = _compose(row, threshold)
        return ", ".join(names) or NONE_ANSWER


def _compose(row: WordScores, threshold: float) -> list[str]:
    """Labels of the words that pass, the likeliest of each position together, then the second ones, and so on.

    Where fewer words pass at one position than at another, the labels share its last one.
    """
    ranked = [sorted(of, key=of.__getitem__, reverse=True) for of in row]
    if np.mean([of[words[0]] for of, words in zip(row, ranked, strict=True)]) < threshold:
        return []
    passing = [
        [word for word in words if of[word] >= threshold] or words[:1]
        for of, words in zip(row, ranked, strict=True)
    ]
    count = max(len(words) for words in passing)
    names = (" ".join(words[min(rank, len(words) - 1)] for words in passing) for rank in range(count))
    return list(dict.fromkeys(names))


class _Scale:
    """Standardised features, turned to their first principal components, which are quicker to learn from."""

    def __init__(self, features: Matrix) -> None:
        self._mean, self._deviation = features.mean(0), features.std(0) + 1e-6
        standard = (features - self._mean) / self._deviation
        _, axes = np.linalg.eigh(standard.T @ standard / len(standard))
        self._axes = axes[:, ::-1][:, :_COMPONENTS]

    def __call__(self, features: Matrix) -> Matrix:
        return ((features - self._mean) / self._deviation) @ self._axes


_Position = Callable[[Matrix], list[dict[str, float]]]
"""Scaled features to the log probability of each word at one position, row by row."""


def _fit_exclusive(scaled: Matrix, words: Sequence[str]) -> _Position:
    known = sorted(set(words))
    if len(known) == 1:
        return lambda rows: [{known[0]: 0.0} for _ in range(len(rows))]
    model = _logistic_regression(scaled, np.array(words))
    return lambda rows: _rows([str(word) for word in model.classes_], model.predict_proba(rows))


def _fit_presence(scaled: Matrix, words: Sequence[set[str]]) -> _Position:
    known = sorted(set().union(*words))
    present = {word: np.array([word in of for of in words]) for word in known}
    models = {
        word: None if rows.all() else _logistic_regression(scaled, rows) for word, rows in present.items()
    }

    def probabilities(rows: Matrix) -> list[dict[str, float]]:
        columns = [
            np.ones(len(rows)) if model is None else model.predict_proba(rows)[:, 1]
            for model in models.values()
        ]
        return _rows(known, np.stack(columns, 1))

    return probabilities


def _logistic_regression(scaled: Matrix, classes: npt.NDArray[np.generic]) -> LogisticRegression:
    with warnings.catch_warnings():
        # Stopped early, it is a little smoother; what it is right about hardly changes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS).fit(scaled, classes)


def _rows(words: Sequence[str], probabilities: Matrix) -> list[dict[str, float]]:
    logs = np.log(np.maximum(probabilities, _LEAST_PROBABILITY))
    return [dict(zip(words, row, strict=True)) for row in logs.tolist()]


def _fixed_width(labels: Sequence[str]) -> int:
    """The number of words that every label has; 1, which takes labels whole, where they differ."""
    widths = {len(label.split()) for label in labels}
    return widths.pop() if len(widths) == 1 else 1


def _words(label: str, width: int) -> tuple[str, ...]:
    text = normalise(label)
    return (text,) if width == 1 else tuple(text.split())


def _label_score(label: str, row: WordScores, width: int) -> float:
    """Mean log probability of the label's words; the least for a label of another number of words."""
    words = _words(label, width)
    if len(words) != len(row):
        return _LEAST
    return float(np.mean([of.get(word, _LEAST) for of, word in zip(row, words, strict=True)]))


def _shares(logs: Mapping[str, float]) -> dict[str, float]:
    """Log scores as probabilities that sum to 1."""
    most = max(logs.values(), default=0.0)
    weights = {label: float(np.exp(score - most)) for label, score in logs.items()}
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


def _likeliest(labels: Sequence[str], row: WordScores, width: int) -> tuple[str, float]:
    scores = {label: _label_score(label, row, width) for label in labels}
    best = max(scores, key=scores.__getitem__)
    return best, scores[best]
