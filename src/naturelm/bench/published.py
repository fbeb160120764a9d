"""BEANS-Zero's scores as its published evaluator gives them, so that they stay comparable.

What is written is first matched to the labels of its data set, which are the distinct right answers of its rows.
That snapping is generous: beside each score stands the share of answers that were right before it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from naturelm.corpus.schema import NONE_ANSWER
from naturelm.errors import NatureLMError

CLASSIFICATION, DETECTION, CAPTIONING = "classification", "detection", "captioning"
TASKS: Mapping[str, str] = {
    **dict.fromkeys(
        ("esc50", "watkins", "cbi", "humbugdb", "lifestage", "call-type", "zf-indiv"), CLASSIFICATION
    ),
    **{
        f"unseen-{rank}-{names}": CLASSIFICATION
        for rank in ("species", "genus", "family")
        for names in ("cmn", "sci", "tax")
    },
    **dict.fromkeys(("enabirds", "hiceas", "rfcx", "gibbons", "dcase"), DETECTION),
    "captioning": CAPTIONING,
}
"""The 22 components of BEANS-Zero and how each is scored."""
_END_OF_ANSWER = "<|end_of_text|>"
_FARTHEST = 5
"""Letters that a detected name may differ by from a label; one that is farther is none."""
_LONGEST = 4
"""Words of the longest runs that CIDEr compares."""
_SPREAD = 6.0


@dataclass(frozen=True)
class Prediction:
    """What a system wrote about one row."""

    dataset_name: str
    prediction: str
    label: str


@dataclass(frozen=True)
class PublishedScores:
    """The published metrics of one component, under their published names."""

    dataset_name: str
    task: str
    rows: int
    metrics: Mapping[str, float]
    exact: float
    """Share of answers that were right to the letter, before they were matched to labels."""


def published_scores(
    predictions: Sequence[Prediction], tasks: Mapping[str, str] = TASKS
) -> list[PublishedScores]:
    """Scores by component, in the order in which components first appear.

    tasks: how the rows of a component are scored. Raises NatureLMError for a component that is not in it.
    """
    by_name: dict[str, list[Prediction]] = {}
    for row in predictions:
        by_name.setdefault(row.dataset_name, []).append(row)
    unknown = sorted(set(by_name) - set(tasks))
    if unknown:
        raise NatureLMError(f"no component is called {unknown[0]!r}; there are: {', '.join(sorted(tasks))}")
    return [_scored(name, tasks[name], rows) for name, rows in by_name.items()]


def matched_answers(written: Sequence[str], labels: Sequence[str], task: str) -> list[str]:
    """What is written, as the labels that it is taken for.

    labels: the right answers of all rows, with repetition or without. Text after the end of the answer is cut. A
    label is matched to the letter or else by the smallest Levenshtein distance. Of a detection each part between
    commas is matched on its own, and what is more than 5 letters away from all labels is `None`.
    """
    known = sorted({*labels, *((NONE_ANSWER,) if task == DETECTION else ())})
    exact = set(known)

    @cache
    def nearest(text: str) -> str:
        if text in exact:
            return text
        label, distance, _ = process.extractOne(text, known, scorer=Levenshtein.distance, processor=None)
        return NONE_ANSWER if task == DETECTION and distance > _FARTHEST else label

    cut = [text.split(_END_OF_ANSWER)[0].strip() for text in written]
    if task == CAPTIONING:
        return cut
    if task == CLASSIFICATION:
        return [nearest(text) for text in cut]
    return [", ".join(nearest(part.strip()) for part in text.split(",")) for text in cut]


def _scored(name: str, task: str, rows: Sequence[Prediction]) -> PublishedScores:
    written, labels = [row.prediction for row in rows], [row.label for row in rows]
    matched = matched_answers(written, labels, task)
    metrics = {
        CLASSIFICATION: _classification,
        DETECTION: _detection,
        CAPTIONING: lambda matched, labels: {"CIDEr": cider(matched, labels)},
    }[task](matched, labels)
    exact = np.mean(
        [text.split(_END_OF_ANSWER)[0].strip() == label for text, label in zip(written, labels, strict=True)]
    )
    return PublishedScores(name, task, len(rows), metrics, float(exact))


def _classification(matched: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, matched, average="weighted", zero_division=0
    )
    hits = [
        answer in [part.strip() for part in label.split(",")]
        for answer, label in zip(matched, labels, strict=True)
    ]
    return {
        "Accuracy": float(accuracy_score(labels, matched)),
        "Precision": float(precision),
        "Recall": float(recall),
        "F1 Score": float(f1),
        "Top-1 Accuracy": float(np.mean(hits)),
    }


def _detection(matched: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    right, said = [_parts(label) for label in labels], [_parts(answer) for answer in matched]
    classes = sorted(set().union(*right) - {NONE_ANSWER})
    if not classes:
        return dict.fromkeys(("mAP", "F1", "Recall", "Precision"), 0.0)
    truth = np.array([[name in parts for name in classes] for parts in right], dtype=int)
    decided = np.array([[name in parts for name in classes] for parts in said], dtype=int)
    hits = (truth & decided).sum(0)
    precision, recall = _ratio(hits, decided.sum(0)), _ratio(hits, truth.sum(0))
    return {
        "mAP": float(np.mean([_average_precision(truth[:, n], decided[:, n]) for n in range(len(classes))])),
        "F1": float(_ratio(2 * precision * recall, precision + recall).mean()),
        "Recall": float(recall.mean()),
        "Precision": float(precision.mean()),
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where nothing is below."""
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _average_precision(truth: np.ndarray, decided: np.ndarray) -> float:
    """Mean precision at the hits. All rows of one decision are tied: the evaluator has them as torch sorts them."""
    order = torch.sort(torch.from_numpy(decided).float(), descending=True).indices.numpy()
    ordered = truth[order]
    at = np.flatnonzero(ordered)
    return float(np.mean(np.cumsum(ordered)[at] / (at + 1))) if len(at) else 0.0


def _parts(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def cider(written: Sequence[str], references: Sequence[str]) -> float:
    """CIDEr-D of captions with one reference each (Vedantam et al. 2015, arXiv:1411.5726), between 0 and 10.

    Words are what stands between spaces, as they are.
    """
    runs = [_runs(reference) for reference in references]
    frequency = Counter(run for of in runs for run in of)
    log_rows = math.log(len(references))
    return float(
        np.mean(
            [_similar(_runs(text), of, frequency, log_rows) for text, of in zip(written, runs, strict=True)]
        )
    )


def _runs(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, _LONGEST + 1)
        for start in range(len(words) - length + 1)
    )


def _similar(
    written: Counter[tuple[str, ...]],
    reference: Counter[tuple[str, ...]],
    frequency: Counter[tuple[str, ...]],
    log_rows: float,
) -> float:
    total = 0.0
    lengths = [sum(count for run, count in of.items() if len(run) == 2) for of in (written, reference)]
    penalty = math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * _SPREAD**2))
    for length in range(1, _LONGEST + 1):
        own, right = (_weights(of, length, frequency, log_rows) for of in (written, reference))
        shared = sum(min(weight, right[run]) * right[run] for run, weight in own.items() if run in right)
        norms = math.sqrt(sum(w * w for w in own.values())) * math.sqrt(sum(w * w for w in right.values()))
        total += shared / norms * penalty if norms else shared * penalty
    return 10 * total / _LONGEST


def _weights(
    of: Counter[tuple[str, ...]], length: int, frequency: Counter[tuple[str, ...]], log_rows: float
) -> dict[tuple[str, ...], float]:
    return {
        run: count * (log_rows - math.log(max(1, frequency[run])))
        for run, count in of.items()
        if len(run) == length
    }
