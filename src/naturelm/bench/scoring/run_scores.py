"""All scores of a run, component by component."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from naturelm.bench.published import (
    CAPTIONING,
    CLASSIFICATION,
    DETECTION,
    Prediction,
    cider_by_row,
    detected_classes,
    exact_marks,
    matched_rows,
    presence,
    published_scores,
)
from naturelm.bench.running.journal import RunRow
from naturelm.bench.running.runs import Run
from naturelm.bench.scoring.captions import spice
from naturelm.bench.scoring.ranked import (
    Scores,
    accuracy_of_chosen,
    calibration,
    chosen,
    mean_average_precision,
    top_5,
    truth_of,
)
from naturelm.bench.scoring.statistics import (
    Figure,
    Floats,
    Statistic,
    classification_statistics,
    detection_statistics,
    mean_of,
    with_intervals,
)
from naturelm.corpus.schema import NONE_ANSWER

MAIN: Mapping[str, str] = {CLASSIFICATION: "Accuracy", DETECTION: "F1", CAPTIONING: "CIDEr"}
"""The score of each task that systems are compared by."""
EXACT = "Exact Match"


@dataclass(frozen=True)
class ComponentScores:
    """One component of a run."""

    dataset_name: str
    task: str
    rows: int
    failed: int
    """Rows without an answer, which count as wrong."""
    groups: int
    """Recordings that the rows are about."""
    figures: tuple[Figure, ...]
    spread: Mapping[str, float]
    """The main score by variant of the prompt; empty where there is one only."""

    @property
    def main(self) -> Figure:
        """The score that systems are compared by."""
        return self.figure(MAIN[self.task])  # type: ignore[return-value]

    def figure(self, name: str) -> Figure | None:
        """A score by its name; None where it is not there."""
        return next((of for of in self.figures if of.name == name), None)


@dataclass(frozen=True)
class RunScores:
    """All components of a run, in the order in which they were asked."""

    name: str
    system: Mapping[str, str]
    finished: bool
    components: tuple[ComponentScores, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score_run(run: Run, *, seed: int = 0) -> RunScores:
    """Score a run, as far as it has come. seed: of the bootstrap."""
    notes: list[str] = []
    components = []
    for name, rows in by_component(run.rows).items():
        task = run.tasks[name]
        variants = {key: by_component(of).get(name, []) for key, of in run.variants.items()}
        spread = {key: main_value(name, task, of) for key, of in variants.items() if of}
        if spread:
            spread = {"own": main_value(name, task, rows), **spread}
        components.append(
            ComponentScores(
                dataset_name=name,
                task=task,
                rows=len(rows),
                failed=sum(bool(row.error) for row in rows),
                groups=len({row.group for row in rows}),
                figures=tuple(_figures(name, task, rows, seed, notes)),
                spread=spread,
            )
        )
    absent = [str(name) for name in run.about.get("absent", [])]
    if absent:
        notes.insert(0, f"the data has no rows of {', '.join(absent)}")
    if not run.finished:
        notes.insert(0, "the run is not finished: these are the scores of the rows that it has answered")
    return RunScores(
        run.name, run.about.get("system", {}), run.finished, tuple(components), tuple(dict.fromkeys(notes))
    )


def by_component(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Rows by their component, in their order."""
    found: dict[str, list[RunRow]] = {}
    for row in rows:
        found.setdefault(row.dataset_name, []).append(row)
    return found


def predictions_of(rows: Sequence[RunRow]) -> list[Prediction]:
    """As the published evaluator has them."""
    return [Prediction(row.dataset_name, row.prediction, row.label, bool(row.error)) for row in rows]


def main_value(name: str, task: str, rows: Sequence[RunRow]) -> float:
    """The main score of one component alone."""
    (scores,) = published_scores(predictions_of(rows), {name: task})
    return scores.metrics[MAIN[task]]


def _figures(name: str, task: str, rows: Sequence[RunRow], seed: int, notes: list[str]) -> list[Figure]:
    predictions = predictions_of(rows)
    (published,) = published_scores(predictions, {name: task})
    resampled = statistics_of(name, task, rows)
    scores = [row.scores for row in rows]
    ranked: list[Figure] = []
    if task == CAPTIONING:
        resampled += _spice(rows, notes)
    elif any(scores):
        more, ranked = _of_scores(task, rows, scores, seed)
        resampled += more
    figures = with_intervals(resampled, [row.group for row in rows], seed=seed)
    known = {figure.name for figure in figures}
    # Of the published mAP the rows' order matters, so it has no interval.
    return [
        *(Figure(key, value) for key, value in published.metrics.items() if key not in known),
        *figures,
        *ranked,
    ]


def statistics_of(name: str, task: str, rows: Sequence[RunRow]) -> list[Statistic]:
    """What can be resampled of the answers of one component; the main score comes first."""
    predictions = predictions_of(rows)
    labels = [row.label for row in rows]
    matched = matched_rows(name, task, predictions)
    exact = mean_of(EXACT, exact_marks(predictions))
    if task == CAPTIONING:
        return [mean_of("CIDEr", cider_by_row(matched, labels), share=False), exact]
    if task == DETECTION:
        classes = detected_classes(labels)
        if not classes:
            return [mean_of("F1", np.zeros(len(rows))), exact]
        return [
            *detection_statistics(_present(labels, classes), _present(matched, classes)),
            exact,
        ]
    parts = {label: {part.strip() for part in label.split(",")} for label in set(labels)}
    pairs = list(zip(matched, labels, strict=True))
    return [
        mean_of("Accuracy", [answer == label for answer, label in pairs]),
        mean_of("Top-1 Accuracy", [answer in parts[label] for answer, label in pairs]),
        *classification_statistics(matched, labels),
        exact,
    ]


def _present(answers: Sequence[str], classes: Sequence[str]) -> Floats:
    return presence(answers, classes).astype(np.float64)


def _of_scores(
    task: str, rows: Sequence[RunRow], scores: Sequence[Scores], seed: int
) -> tuple[list[Statistic], list[Figure]]:
    labels, groups = [row.label for row in rows], [row.group for row in rows]
    if task == DETECTION:
        classes = detected_classes(labels)
        if not classes:
            return [], []
        truth = _present(labels, classes)
        precision = mean_average_precision(scores, truth, classes, groups, seed=seed)
        if not any(of and NONE_ANSWER in of for of in scores):
            return [], [precision]  # it cannot choose to say that nothing is there
        decided = _present([chosen(of) or "" for of in scores], classes)
        (f1, *_) = detection_statistics(truth, decided)
        return [Statistic("F1 (chosen)", f1.sums, f1.of_totals)], [precision]
    truth, classes = truth_of(labels)
    calibrated = calibration(scores, labels)
    statistics = [accuracy_of_chosen(scores, labels), top_5(scores, labels)]
    return (
        [*statistics, *([calibrated] if calibrated else [])],
        [mean_average_precision(scores, truth, classes, groups, seed=seed)],
    )


def _spice(rows: Sequence[RunRow], notes: list[str]) -> list[Statistic]:
    matched = matched_rows(rows[0].dataset_name, CAPTIONING, predictions_of(rows))
    written = ["" if row.error else text for row, text in zip(rows, matched, strict=True)]
    found = spice(written, [row.label for row in rows])
    if found.by_row is None:
        notes.append(found.note)
        return []
    of_cider = np.array(cider_by_row(written, [row.label for row in rows])) / 10
    return [
        mean_of("SPICE", found.by_row),
        mean_of("SPIDEr", (of_cider + np.array(found.by_row)) / 2),
    ]
