"""What scores of labels tell, where a system gives them: top 5, average precision, calibration."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from naturelm.bench.scoring.statistics import (
    Figure,
    Floats,
    Statistic,
    drawn_counts,
    group_codes,
    interval_of,
    mean_of,
    one_hot,
)

_BINS = 15
_RANKED_RESAMPLES = 200
"""Of average precision, which is dearer to resample than a mean."""
_TOP = 5
Scores = Mapping[str, float] | None


def chosen(scores: Scores) -> str | None:
    """The likeliest label; the first of several in their order; None without scores."""
    return max(scores, key=scores.__getitem__) if scores else None


def accuracy_of_chosen(scores: Sequence[Scores], labels: Sequence[str]) -> Statistic:
    """Share of rows whose likeliest label is right; a row without scores is wrong."""
    return mean_of(
        "Accuracy (chosen)", [chosen(own) == label for own, label in zip(scores, labels, strict=True)]
    )


def top_5(scores: Sequence[Scores], labels: Sequence[str]) -> Statistic:
    """Share of rows whose right label is among the five likeliest. Labels as likely as the fifth stand behind it."""
    hits = []
    for own, label in zip(scores, labels, strict=True):
        # Of equals the one that is right comes last: a system that scores all alike knows nothing.
        above = sum(score >= own[label] for score in own.values()) if own and label in own else _TOP + 1
        hits.append(above <= _TOP)
    return mean_of("Top-5 Accuracy (scores)", hits)


def calibration(scores: Sequence[Scores], labels: Sequence[str]) -> Statistic | None:
    """Expected calibration error: how far the score of the likeliest label is from how often it is right, in 15 bins.

    None where scores are no probabilities. Rows without scores say nothing of it.
    """
    known = [(own, label) for own, label in zip(scores, labels, strict=True) if own]
    if not known or any(not 0 <= score <= 1 for own, _ in known for score in own.values()):
        return None
    sums = np.zeros((len(scores), _BINS + 1))
    for row, (own, label) in enumerate(zip(scores, labels, strict=True)):
        if own:
            best = chosen(own)
            confidence = own[str(best)]
            sums[row, min(int(confidence * _BINS), _BINS - 1)] = (best == label) - confidence
            sums[row, _BINS] = 1
    return Statistic(
        "ECE (scores)",
        sums,
        lambda totals: np.abs(totals[..., :_BINS]).sum(-1) / np.maximum(totals[..., _BINS], 1),
    )


def mean_average_precision(
    scores: Sequence[Scores],
    truth: Floats,
    classes: Sequence[str],
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
) -> Figure:
    """Mean over classes of the average precision of rows by their scores; rows of one score are one step.

    truth: (rows, classes) zeros and ones. A row without a score of a class comes last. The interval is of 200 resamples.
    """
    codes = group_codes(groups)
    counts = np.concatenate(list(drawn_counts(int(codes.max()) + 1, seed, _RANKED_RESAMPLES)))
    weights = np.concatenate([np.ones((1, len(codes))), counts[:, codes]])
    values = np.zeros((len(weights), len(classes)))
    there = np.zeros_like(values)
    for column, name in enumerate(classes):
        own = np.array([-np.inf if of is None else of.get(name, -np.inf) for of in scores])
        values[:, column], there[:, column] = _average_precisions(own, truth[:, column], weights)
    # A resample may lack a rare class, whose precision is then unknown and not 0.
    means = values.sum(1) / np.maximum(there.sum(1), 1)
    value = float(means[0])
    return Figure("mAP (scores)", value, *interval_of(means[1:], value))


def _average_precisions(scores: Floats, truth: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """(resamples,) average precisions, and whether the class is there at all."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.searchsorted(-ordered, -ordered, side="right") - 1
    drawn = weights[:, order]
    hits = drawn * truth[order]
    totals = hits.sum(1)
    # Only at rows that are right is precision counted.
    right = np.flatnonzero(truth[order])
    reached = ends[right]
    precision = hits.cumsum(1)[:, reached] / np.maximum(drawn.cumsum(1)[:, reached], 1e-12)
    found = totals > 0
    return np.where(found, (hits[:, right] * precision).sum(1) / np.maximum(totals, 1), 0.0), found.astype(
        float
    )


def truth_of(labels: Sequence[str]) -> tuple[Floats, list[str]]:
    """(rows, classes) zeros and ones of single labels, and the classes, sorted."""
    classes = sorted(set(labels))
    place = {name: column for column, name in enumerate(classes)}
    return one_hot([place[label] for label in labels], len(classes)), classes
