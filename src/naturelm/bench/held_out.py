"""A model on the held-out part of a corpus, beside chance and the plain baseline, with intervals."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from naturelm.bench.asking import Answerer, Given, ask_component
from naturelm.bench.baseline import PlainBaseline
from naturelm.bench.chance import chance_level
from naturelm.bench.components import Component, Row, read_components, read_rows
from naturelm.bench.intervals import bootstrap_interval
from naturelm.bench.matching import normalise
from naturelm.bench.metrics import Metric, metrics_of
from naturelm.corpus.storage import Corpus

OTHER = "other"
"""Column of a confusion table for what is none of the component's answers."""


@dataclass(frozen=True)
class Score:
    """One metric of one component, between 0 and 1."""

    component: str
    task: str
    metric: str
    value: float
    low: float
    """Lower end of the 95% bootstrap interval; groups of rows (individuals, recordings) are drawn whole."""
    high: float
    n: int
    """Rows that were answered."""
    groups: int
    """Individuals or recordings that those rows are about."""
    chance: float
    chance_by: str
    """The better guesser: `most frequent answer` or `uniform guess`."""
    baseline: float | None = None
    """What the plain baseline reaches on the same rows; None where it has no answer."""
    gain_low: float | None = None
    """Ends of the 95% bootstrap interval of value less baseline, row by row."""
    gain_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Confusion:
    """Who is taken for whom in one component."""

    component: str
    how: str
    """`choice` from the closed set, or `written` freely."""
    answers: tuple[str, ...]
    """Right answers, one a row."""
    given: tuple[str, ...]
    """Given answers, one a column; the last is `other` where something else was written."""
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class AnswerRecord:
    """A row, what was answered, and how it was marked; None where there is no such mark."""

    id: str
    component: str
    task: str
    group: str
    question: str
    answer: str
    written: str
    exact: float | None
    f1: float | None
    word_f1: float | None
    choice: str
    choice_probability: float | None
    choice_right: float | None
    baseline_written: str
    baseline_choice: str
    error: str


@dataclass(frozen=True)
class HeldOutReport:
    """All that scoring a model found."""

    scores: tuple[Score, ...]
    answers: tuple[AnswerRecord, ...]
    confusions: tuple[Confusion, ...]

    @property
    def failures(self) -> tuple[AnswerRecord, ...]:
        """Rows that could not be read or answered; they are in no score."""
        return tuple(record for record in self.answers if record.error)


def score_held_out(
    answerer: Answerer,
    folder: Path | str,
    *,
    split: str = "test",
    components: Sequence[str] | None = None,
    limit: int | None = None,
    choices: bool = True,
    baseline: PlainBaseline | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeldOutReport:
    """Score a model on the components of a split of a corpus.

    components: their names, default all; limit: rows of each, spread evenly.
    choices: score the closed sets too, which takes longer than writing where a set is large.
    baseline: of the same corpus, so that several models share one; None leaves it out.
    seed: of the bootstrap. progress: told how many rows of how many are answered.

    Raises CorpusError where the corpus, its training rows or a component is missing.
    """
    folder = Path(folder)
    corpus = Corpus(folder, split)
    chosen = read_components(folder, split=split, names=components, limit=limit)
    training = _training_answers(folder)
    total, done = sum(len(component.rows) for component in chosen), 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    progress(0, total)
    scores: list[Score] = []
    answers: list[AnswerRecord] = []
    confusions: list[Confusion] = []
    for component in chosen:
        given = ask_component(answerer, corpus, component, choices=choices, advance=advance)
        plain = None if baseline is None else baseline.answer(corpus, component, choices=choices)
        metrics = [metric for metric in metrics_of(component) if choices or not metric.closed]
        known = training.get((component.task, component.rows[0].invented), Counter())
        scores += _scores(component, metrics, given, plain, known, seed)
        answers += _records(metrics, given, plain)
        if component.real_animals:
            confusions += _confusions(component, given, choices)
    return HeldOutReport(tuple(scores), tuple(answers), tuple(confusions))


def _training_answers(folder: Path) -> Mapping[tuple[str, bool], Counter[str]]:
    """How often each answer is right in training, by task and whether the invented fauna is asked about."""
    found: dict[tuple[str, bool], Counter[str]] = {}
    for row in read_rows(Corpus(folder, "train")):
        found.setdefault((row.task, row.invented), Counter())[row.answer] += 1
    return found


def _scores(
    component: Component,
    metrics: Sequence[Metric],
    given: Sequence[Given],
    plain: Sequence[Given] | None,
    training: Counter[str],
    seed: int,
) -> list[Score]:
    answered = [place for place, of in enumerate(given) if not of.error]
    if not answered:
        return []
    scores = []
    for metric in metrics:
        marks = np.array([_mark(metric, given[place]) for place in answered])
        groups = [given[place].row.group for place in answered]
        interval = bootstrap_interval(marks, groups=groups, seed=seed)
        level = chance_level(component, metric, training)
        baseline: float | None = None
        gain_low: float | None = None
        gain_high: float | None = None
        if plain is not None:
            beside = np.array([0.0 if plain[p].error else _mark(metric, plain[p]) for p in answered])
            gain = bootstrap_interval(marks - beside, groups=groups, seed=seed, shares=False)
            baseline, gain_low, gain_high = float(beside.mean()), gain.low, gain.high
        scores.append(
            Score(
                component=component.name,
                task=component.task,
                metric=metric.name,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                n=interval.n,
                groups=len(set(groups)),
                chance=level.value,
                chance_by=level.how,
                baseline=baseline,
                gain_low=gain_low,
                gain_high=gain_high,
            )
        )
    return scores


def _mark(metric: Metric, given: Given) -> float:
    return metric.mark(given.row, given.choice if metric.closed else given.written)


def _records(
    metrics: Sequence[Metric], given: Sequence[Given], plain: Sequence[Given] | None
) -> list[AnswerRecord]:
    records = []
    for place, of in enumerate(given):
        row: Row = of.row
        marks = {} if of.error else {metric.name: _mark(metric, of) for metric in metrics}
        beside = plain[place] if plain is not None else None
        records.append(
            AnswerRecord(
                id=row.id,
                component=row.component,
                task=row.task,
                group=row.group,
                question=row.question,
                answer=row.answer,
                written=of.written,
                exact=marks.get("exact"),
                f1=marks.get("f1"),
                word_f1=marks.get("word_f1"),
                choice=of.choice,
                choice_probability=of.probability if of.choice else None,
                choice_right=marks.get("choice"),
                baseline_written="" if beside is None else beside.written,
                baseline_choice="" if beside is None else beside.choice,
                error=of.error,
            )
        )
    return records


def _confusions(component: Component, given: Sequence[Given], choices: bool) -> list[Confusion]:
    answered = [of for of in given if not of.error]
    tables = [_confusion(component, "written", [(of.row.answer, of.written) for of in answered])]
    chosen = [(of.row.answer, of.choice) for of in answered if of.choice]
    if choices and chosen:
        tables.append(_confusion(component, "choice", chosen))
    return tables


def _confusion(component: Component, how: str, pairs: Sequence[tuple[str, str]]) -> Confusion:
    place = {normalise(label): column for column, label in enumerate(component.labels)}
    counts = np.zeros((len(place), len(place) + 1), int)
    for answer, said in pairs:
        counts[place[normalise(answer)], place.get(normalise(said), len(place))] += 1
    rows = tuple(tuple(row) for row in counts.tolist())
    return Confusion(component.name, how, component.labels, (*component.labels, OTHER), rows)
