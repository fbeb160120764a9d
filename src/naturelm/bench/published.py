"""BEANS-Zero's scores as its published evaluator gives them, so that they stay comparable.

What is written is first matched to the labels of its data set, which are the distinct right answers of its rows.
That snapping is generous: beside each score stands the share of answers that were right before it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

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
_COMPARED_AT_ONCE = 2**22
"""Distances that are in memory together: 16 MB."""
_FAILED = "\0"
"""What a row without an answer is taken for: no label, so that it is wrong whatever is right."""
_LONGEST = 4
"""Words of the longest runs that CIDEr compares."""
_SPREAD = 6.0


@dataclass(frozen=True)
class Prediction:
    """What a system wrote about one row."""

    dataset_name: str
    prediction: str
    label: str
    failed: bool = False
    """Whether there is no answer at all, which is wrong; an empty one is matched to a label as any other."""


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


def matched_answers(
    written: Sequence[str], labels: Sequence[str], task: str, *, parts: bool = False
) -> list[str]:
    """What is written, as the labels that it is taken for.

    labels: the right answers of all rows, with repetition or without. Text after the end of the answer is cut. A
    label is matched to the letter or else by the smallest Levenshtein distance. Of a detection each part between
    commas is matched on its own, and what is more than 5 letters away from all labels is `None`.

    parts: of a detection, whether the parts of the right answers are labels as well. The published evaluator has whole
    answers only, which takes a right part for another where no row has it alone; BEANS-Zero has such rows for all.
    """
    cut = {text: text.split(_END_OF_ANSWER)[0].strip() for text in dict.fromkeys(written)}
    if task == CAPTIONING:
        return [cut[text] for text in written]
    known = set(labels)
    if task == DETECTION:
        known |= {NONE_ANSWER, *(part for label in known if parts for part in _parts(label))}
    pieces = {text: [text] if task == CLASSIFICATION else _listed(text) for text in set(cut.values())}
    nearest = _nearest({piece for of in pieces.values() for piece in of}, sorted(known), task)
    joined = {text: ", ".join(nearest[piece] for piece in of) for text, of in pieces.items()}
    return [joined[cut[text]] for text in written]


def _nearest(texts: set[str], known: Sequence[str], task: str) -> dict[str, str]:
    """The label that each text is taken for; the first of those that are equally near."""
    taken = {text: text for text in texts & set(known)}
    rest = sorted(texts - set(known))
    at_once = max(1, _COMPARED_AT_ONCE // len(known))
    for first in range(0, len(rest), at_once):
        part = rest[first : first + at_once]
        # One call for many texts: several times as fast as one for each, and more so than one for each pair.
        distances = process.cdist(part, known, scorer=Levenshtein.distance, dtype=np.int32)
        places = distances.argmin(1)
        for text, place, distance in zip(part, places, distances[np.arange(len(part)), places], strict=True):
            far = task == DETECTION and distance > _FARTHEST
            taken[text] = NONE_ANSWER if far else known[place]
    return taken


def _scored(name: str, task: str, rows: Sequence[Prediction]) -> PublishedScores:
    matched = matched_rows(name, task, rows)
    labels = [row.label for row in rows]
    metrics = {
        CLASSIFICATION: _classification,
        DETECTION: _detection,
        CAPTIONING: lambda matched, labels: {"CIDEr": cider(matched, labels)},
    }[task](matched, labels)
    return PublishedScores(name, task, len(rows), metrics, float(np.mean(exact_marks(rows))))


def matched_rows(name: str, task: str, rows: Sequence[Prediction]) -> list[str]:
    """`matched_answers` of the rows of one component; a row without an answer is taken for no label."""
    labels = [row.label for row in rows]
    matched = matched_answers([row.prediction for row in rows], labels, task, parts=name not in TASKS)
    return [_FAILED if row.failed else text for row, text in zip(rows, matched, strict=True)]


def exact_marks(rows: Sequence[Prediction]) -> list[bool]:
    """Whether each row is right to the letter, before it is matched to labels."""
    return [not row.failed and row.prediction.split(_END_OF_ANSWER)[0].strip() == row.label for row in rows]


def _classification(matched: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    classes = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    # What is none of the labels is one class more, which no row is of.
    said = np.array([classes.get(answer, len(classes)) for answer in matched])
    right = np.array([classes[label] for label in labels])
    support = np.bincount(right, minlength=len(classes))
    hits = np.bincount(right[said == right], minlength=len(classes))
    precision = _ratio(hits, np.bincount(said, minlength=len(classes) + 1)[:-1])
    recall = _ratio(hits, support)
    f1 = _ratio(2 * precision * recall, precision + recall)
    weights = support / len(labels)
    parts = {label: _parts(label) for label in classes}
    top = [answer in parts[label] for answer, label in zip(matched, labels, strict=True)]
    return {
        "Accuracy": float(np.mean(said == right)),
        "Precision": float(precision @ weights),
        "Recall": float(recall @ weights),
        "F1 Score": float(f1 @ weights),
        "Top-1 Accuracy": float(np.mean(top)),
    }


def _detection(matched: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    classes = detected_classes(labels)
    if not classes:
        return dict.fromkeys(("mAP", "F1", "Recall", "Precision"), 0.0)
    truth, decided = presence(labels, classes), presence(matched, classes)
    hits = (truth & decided).sum(0)
    precision, recall = _ratio(hits, decided.sum(0)), _ratio(hits, truth.sum(0))
    return {
        "mAP": float(np.mean([_average_precision(truth[:, n], decided[:, n]) for n in range(len(classes))])),
        "F1": float(_ratio(2 * precision * recall, precision + recall).mean()),
        "Recall": float(recall.mean()),
        "Precision": float(precision.mean()),
    }


def detected_classes(labels: Sequence[str]) -> list[str]:
    """The distinct parts of right answers, `None` excluded, sorted."""
    return sorted({part for label in set(labels) for part in _parts(label)} - {NONE_ANSWER})


def presence(answers: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """(answers, classes) 1 where a class is one of the parts of an answer."""
    place = {name: column for column, name in enumerate(classes)}
    rows = {text: [place[part] for part in _parts(text) if part in place] for text in set(answers)}
    found = np.zeros((len(answers), len(classes)), np.int64)
    for row, text in enumerate(answers):
        found[row, rows[text]] = 1
    return found


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
    return set(_listed(text))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def cider(written: Sequence[str], references: Sequence[str]) -> float:
    """CIDEr-D of captions with one reference each (Vedantam et al. 2015, arXiv:1411.5726), between 0 and 10.

    Words are what stands between spaces, as they are.
    """
    return float(np.mean(cider_by_row(written, references)))


def cider_by_row(written: Sequence[str], references: Sequence[str]) -> list[float]:
    """CIDEr-D of each caption; how rare words are is counted over all references."""
    runs = [_runs(reference) for reference in references]
    frequency = Counter(run for of in runs for run in of)
    log_rows = math.log(len(references))
    return [_similar(_runs(text), of, frequency, log_rows) for text, of in zip(written, runs, strict=True)]


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
