"""Arms of the paper's experiments, trained from the same first stage and scored on the same held-out rows.

A run's folder is OUT/seed-S/NAME; its answers are kept in `scores` there. What is there already is not done again,
so that an experiment goes on where it was stopped.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.answer.engine import NatureLM
from naturelm.bench.comparing import ArmScores
from naturelm.bench.components import Component, read_components
from naturelm.bench.held_out import AnswerRecord, HeldOutReport, Score, score_held_out
from naturelm.bench.questions import (
    COUNTING,
    FULL,
    NEEDED,
    SPEECH_AND_MUSIC,
    WITHOUT_BOTH,
    WITHOUT_COUNTING,
    WITHOUT_SPEECH_MUSIC,
    is_asked_for,
)
from naturelm.bench.report import ANSWERS, SCORES, write_report
from naturelm.corpus.storage import MANIFEST, read_manifest, write_text
from naturelm.errors import NatureLMError
from naturelm.train.options import TrainOptions, load_train_options
from naturelm.train.run import MODEL, OPTIONS, TrainReport
from naturelm.train.runlog import FACTS, RunFacts, read_facts

STAGE1 = "stage1"
ARMS = {
    FULL: (),
    WITHOUT_SPEECH_MUSIC: SPEECH_AND_MUSIC,
    WITHOUT_COUNTING: COUNTING,
    WITHOUT_BOTH: (*COUNTING, *SPEECH_AND_MUSIC),
}
"""The tasks that each arm's second stage is trained without."""
MOST_CHOSEN_FROM = 20
"""Labels of the largest closed set that is chosen from: a larger one takes far longer than writing."""
_STAGE1_CONFIG, _STAGE2_CONFIG = "mini-stage1", "mini-stage2"
_SCORES = "scores"
_SETTINGS = "settings.json"
_LEARNT_BY = ("steps", "model", "mixture", "warm_up", "optimizer", "batch_size", "precision", "seed")
"""Options that decide what a run learns."""
_SET_HERE = ("name", "seed", "corpus", "model.start")


@dataclass(frozen=True)
class ExperimentOptions:
    """What is asked for on one corpus."""

    corpus: Path
    out: Path
    seeds: int = 3
    start: Path | None = None
    """A finished first stage, for all seeds; None to train one for each."""
    limit: int | None = None
    """Rows of each component that are scored; None for all."""
    changes: tuple[str, ...] = ()
    """`KEY=VALUE` for the second stage's options."""

    def __post_init__(self) -> None:
        """Raises NatureLMError for a number below 1, and for options that the experiment sets itself."""
        for key, value in (("seeds", self.seeds), ("limit", self.limit)):
            if value is not None and value < 1:
                raise NatureLMError(f"{key}: must be 1 or more, not {value}")
        for change in self.changes:
            if change.partition("=")[0].strip() in _SET_HERE:
                raise NatureLMError(f"--set {change}: each arm has its own; leave it out")


@dataclass(frozen=True)
class PlannedRun:
    """One training run."""

    seed: int
    name: str
    """The arm's, or `stage1`."""
    folder: Path
    options: TrainOptions
    state: Literal["finished", "to be resumed", "to be trained"]

    @property
    def model(self) -> Path:
        """Where its model is once it has finished."""
        return self.folder / MODEL


@dataclass(frozen=True)
class Plan:
    """All that is to be trained and scored."""

    options: ExperimentOptions
    runs: tuple[PlannedRun, ...]
    """By seed; the first stage before its arms."""
    corpus_hash: str
    notes: tuple[str, ...]
    """What a reader of the results has to know of the start."""


@dataclass(frozen=True)
class RunFailure:
    """A run that could not be trained or scored."""

    seed: int
    name: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What was trained and scored."""

    scores: tuple[ArmScores, ...]
    failures: tuple[RunFailure, ...]
    stopped: bool
    """Whether a signal ended it before all was done."""


@dataclass(frozen=True)
class Processes:
    """Who else works on the same runs."""

    number: int = 0
    """Of this process."""
    count: int = 1
    wait: Callable[[], None] = lambda: None
    """Comes back when all processes have called it."""


class Train(Protocol):
    """What trains: `naturelm.train.run.train`, or a stand-in."""

    def __call__(self, options: TrainOptions, out: Path, *, resume: bool) -> TrainReport:
        """Train, or go on with what is in the folder."""


class ScoreModel(Protocol):
    """What scores: `score_model`, or a stand-in."""

    def __call__(self, model: Path, corpus: Path, *, limit: int | None) -> HeldOutReport:
        """Score a model on a corpus."""


class _Stopped(Exception):
    """A run was stopped by a signal, and has saved."""


def plan_experiments(options: ExperimentOptions) -> Plan:
    """What has to be trained, and what is there.

    Raises NatureLMError where the corpus has not all components that the questions need, an option is wrong,
    the first stage is not finished, or a folder holds another run.
    """
    read_manifest(options.corpus)
    read_components(options.corpus, names=NEEDED)
    corpus_hash = hashlib.sha256((options.corpus / MANIFEST).read_bytes()).hexdigest()
    out, corpus = options.out.resolve(), (options.corpus.resolve(),)
    first = load_train_options(_STAGE1_CONFIG, corpus=corpus)
    # Its warm-up learns the words of all open answers: of numbers too, unless they are left out.
    first = _without(first, (*COUNTING, *SPEECH_AND_MUSIC))
    second = load_train_options(_STAGE2_CONFIG, options.changes, corpus)
    runs = []
    for seed in range(options.seeds):
        folder = out / f"seed-{seed}"
        start = folder / STAGE1 if options.start is None else options.start.resolve()
        if options.start is None:
            runs.append(_planned(seed, STAGE1, folder, replace(first, seed=seed), corpus_hash))
        for arm, left_out in ARMS.items():
            of_arm = replace(
                _without(second, left_out),
                name=f"{second.name}-{arm}",
                seed=seed,
                model=replace(second.model, start=str(start)),
            )
            runs.append(_planned(seed, arm, folder, of_arm, corpus_hash))
    return Plan(options, tuple(runs), corpus_hash, _notes_on(options.start))


def run_experiments(
    plan: Plan,
    train: Train,
    score: ScoreModel,
    tell: Callable[[str], None] = lambda line: None,
    processes: Processes = Processes(),
) -> Outcome:
    """Train and score all that is not there yet, seed by seed.

    A run that fails is noted, and the others go on; those that start from it fail with it. tell: gets a line
    at each step. What is found in a folder that was scored before is read from there. Of several processes all
    train each run together and share out the scoring; the first one has the outcome, the others an empty one.
    """
    failures: list[RunFailure] = []
    trained: list[PlannedRun] = []
    stopped = False
    try:
        for seed in dict.fromkeys(run.seed for run in plan.runs):
            arms, failed = _train_seed([run for run in plan.runs if run.seed == seed], train, tell)
            trained += arms
            failures += failed
            for run in arms[processes.number :: processes.count]:
                failures += _tried(run, tell, partial(_score, plan, run, score, tell))
    except (_Stopped, KeyboardInterrupt):
        stopped = True
    else:
        processes.wait()
    if processes.number:
        return Outcome((), (), stopped)
    scores = []
    for run in trained:
        kept = _read_scores(plan, run)
        if kept is not None:
            scores.append(kept)
        elif not stopped and not _is_among(run, failures):
            failures.append(RunFailure(run.seed, run.name, "the process that was to score it has failed"))
    return Outcome(tuple(scores), tuple(failures), stopped)


def _train_seed(
    runs: Sequence[PlannedRun], train: Train, tell: Callable[[str], None]
) -> tuple[list[PlannedRun], list[RunFailure]]:
    """The arms of a seed that have been trained, and what failed."""
    trained: list[PlannedRun] = []
    failures: list[RunFailure] = []
    for run in runs:
        if any(of.name == STAGE1 for of in failures):
            failures.append(RunFailure(run.seed, run.name, "its first stage has failed"))
            continue
        failures += _tried(run, tell, partial(_train, run, train, tell))
        if run.name != STAGE1 and not _is_among(run, failures):
            trained.append(run)
    return trained, failures


def _is_among(run: PlannedRun, failures: Sequence[RunFailure]) -> bool:
    return any((of.seed, of.name) == (run.seed, run.name) for of in failures)


def _tried(run: PlannedRun, tell: Callable[[str], None], work: Callable[[], None]) -> list[RunFailure]:
    """Work on a run; why it failed, if it did."""
    try:
        work()
    # Of torch when memory is short, and of a disk that is full: the other runs may still fit.
    except (NatureLMError, OSError, RuntimeError) as error:
        tell(f"{_title(run)}: failed")
        return [RunFailure(run.seed, run.name, " ".join(str(error).split()))]
    return []


def score_model(
    model: Path,
    corpus: Path,
    *,
    limit: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeldOutReport:
    """A trained model on what the questions ask for; closed sets of up to 20 labels are chosen from.

    progress: told how many rows of how many are answered; those with such sets first, then the others.
    """
    answerer = NatureLM.from_pretrained(str(model))
    asked = [of for of in read_components(corpus, limit=limit) if is_asked_for(of.task)]
    parts = []
    for choices in (True, False):
        names = [of.name for of in asked if _is_small(of) is choices]
        if names:
            part = score_held_out(
                answerer, corpus, components=names, limit=limit, choices=choices, progress=progress
            )
            parts.append(part)
    return HeldOutReport(
        tuple(of for part in parts for of in part.scores),
        tuple(of for part in parts for of in part.answers),
        tuple(of for part in parts for of in part.confusions),
    )


def describe_plan(plan: Plan) -> str:
    """One line a run: what is trained, for how many steps, without what."""
    lines = []
    for run in plan.runs:
        warm_up = run.options.warm_up
        steps = f"{run.options.steps:,} steps"
        if warm_up is not None:
            steps = f"{warm_up.steps:,} steps of warm-up and {steps}"
        without = ", ".join(run.options.mixture.without_tasks)
        tail = f"; without {without}" if without else ""
        lines.append(f"{_title(run)}: {run.state}, {steps} of {run.options.batch_size} pairs{tail}")
    return "\n".join([*lines, *(f"note: {note}" for note in plan.notes)])


# --- planning ----------------------------------------------------------------------------------


def _without(options: TrainOptions, tasks: tuple[str, ...]) -> TrainOptions:
    left_out = tuple(dict.fromkeys((*options.mixture.without_tasks, *tasks)))
    return replace(options, mixture=replace(options.mixture, without_tasks=left_out))


def _planned(seed: int, name: str, parent: Path, options: TrainOptions, corpus_hash: str) -> PlannedRun:
    folder = parent / name
    if not (folder / OPTIONS).exists():
        return PlannedRun(seed, name, folder, options, "to be trained")
    before = load_train_options(folder / OPTIONS)
    for key in _LEARNT_BY:
        if _learnt(options, key) != _learnt(before, key):
            raise NatureLMError(
                f"{folder / OPTIONS}: this run has another `{key}`; give another --out, or what it was trained with"
            )
    facts = read_facts(folder) if (folder / FACTS).exists() else None
    if facts is not None and [of.manifest_hash for of in facts.corpora] != [corpus_hash]:
        raise NatureLMError(f"{folder}: trained on another build of the corpus; give another --out")
    finished = facts is not None and _finished(folder, facts)
    return PlannedRun(seed, name, folder, options, "finished" if finished else "to be resumed")


def _learnt(options: TrainOptions, key: str) -> object:
    """An option's value; of the start only its name, so that results may be looked at where they were copied to."""
    if key != "model" or options.model.start is None:
        return getattr(options, key)
    return replace(options.model, start=Path(options.model.start).name)


def _finished(folder: Path, facts: RunFacts) -> bool:
    return facts.state == "finished" and (folder / MODEL / "config.json").is_file()


def _notes_on(start: Path | None) -> tuple[str, ...]:
    if start is None:
        return ()
    if not _finished(start, read_facts(start)):
        raise NatureLMError(f"{start}: not a finished run; let it train to its end first")
    notes = ["All seeds start from one first stage: they differ in the second one alone."]
    options = load_train_options(start / OPTIONS)
    warm_up, left_out = options.warm_up, options.mixture.without_tasks
    met = [
        task
        for task in (*COUNTING, *SPEECH_AND_MUSIC)
        if task not in left_out
        and (
            (warm_up is not None and task in (warm_up.tasks or (task,)))
            or task in (options.mixture.tasks or (task,))
        )
    ]
    if met:
        notes.append(
            f"The first stage may have learnt from {', '.join(met)}: arms without these have met them there."
        )
    return tuple(notes)


# --- running -----------------------------------------------------------------------------------


def _train(run: PlannedRun, train: Train, tell: Callable[[str], None]) -> None:
    if run.state == "finished":
        return
    tell(f"{_title(run)}: training")
    report = train(run.options, run.folder, resume=True)
    if report.state == "stopped":
        raise _Stopped
    if report.state != "finished":
        raise NatureLMError(report.reason)


def _score(plan: Plan, run: PlannedRun, score: ScoreModel, tell: Callable[[str], None]) -> None:
    """Score a trained run and keep that in its folder."""
    if _read_scores(plan, run) is not None:
        return
    folder = run.folder / _SCORES
    settings = _settings(plan, run)
    tell(f"{_title(run)}: scoring")
    report = score(run.model, plan.options.corpus, limit=plan.options.limit)
    if not report.scores:
        why = report.failures[0].error if report.failures else "nothing was asked"
        raise NatureLMError(f"{run.model}: no row could be answered: {why}")
    # Written last: without it the rest is of no known settings.
    (folder / _SETTINGS).unlink(missing_ok=True)
    write_report(report, folder, title=_title(run))
    write_text(folder / _SETTINGS, json.dumps(settings, indent=1) + "\n")


def _settings(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    return {
        "corpus": plan.corpus_hash,
        "limit": plan.options.limit,
        "chosen_from": MOST_CHOSEN_FROM,
        "trained": read_facts(run.folder).finished,
    }


def _read_scores(plan: Plan, run: PlannedRun) -> ArmScores | None:
    """What was scored with these settings; None if nothing was, or it cannot be read."""
    folder = run.folder / _SCORES
    try:
        if json.loads((folder / _SETTINGS).read_text(encoding="utf-8")) != _settings(plan, run):
            return None
        scores = tuple(Score(**of) for of in json.loads((folder / SCORES).read_text(encoding="utf-8")))
        answers = tuple(AnswerRecord(**of) for of in pq.read_table(folder / ANSWERS).to_pylist())
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return None
    return ArmScores(run.seed, run.name, scores, answers)


def _is_small(component: Component) -> bool:
    """Whether it has closed sets, all of them small."""
    return 0 < max(len(component.choices(row)) for row in component.rows) <= MOST_CHOSEN_FROM


def _title(run: PlannedRun) -> str:
    return f"seed {run.seed}, {run.name}"
