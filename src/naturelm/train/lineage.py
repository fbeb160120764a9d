"""Where a model comes from: the runs that made it, one after the other, and what they learnt from."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naturelm.corpus.stats import Group, corpus_statistics
from naturelm.corpus.storage import MANIFEST
from naturelm.errors import NatureLMError
from naturelm.train.checkpoints import list_checkpoints
from naturelm.train.options import TrainError, TrainOptions, load_train_options
from naturelm.train.runlog import FACTS, CorpusFacts, RunFacts, read_facts, read_log

OPTIONS = "options.yaml"
SCORES = "scores.json"
MODEL = "model"
CHECKPOINTS = "checkpoints"
_ANSWERS = re.compile(r"answers-(\d{6,})")
_MOST_STAGES = 8


@dataclass(frozen=True)
class CorpusContent:
    """A corpus that a run learnt from, and what is in it where it can still be read."""

    facts: CorpusFacts
    hours: float | None = None
    """Of different clips of the training part; None where the corpus is not on disk any more."""
    sources: tuple[Group, ...] = ()
    """By (split, source)."""
    licenses: tuple[Group, ...] = ()
    """By licences of the sounds of a clip, joined by ` + `."""


@dataclass(frozen=True)
class Stage:
    """One run, up to the model in question."""

    options: TrainOptions
    facts: RunFacts
    log: tuple[dict[str, Any], ...]
    corpora: tuple[CorpusContent, ...]
    step: int | None
    """Of the main phase, where the model is one of its checkpoints; None for the final model."""
    scores: tuple[dict[str, Any], ...]
    """Rows of `scores.json`: component, metric, value, low, high, n, chance, baseline. Of a final model only."""


def find_model(run: Path) -> Path:
    """The folder of the model that a run has come to, or `run` itself where it is a model's folder.

    The final model, else the newest checkpoint of answers. TrainError where there is none.
    """
    if not run.is_dir():
        raise TrainError(f"{run}: no such folder; give a run's folder, or one with a model in our layout")
    if (run / "config.json").is_file():
        return run
    if (run / MODEL / "config.json").is_file():
        return run / MODEL
    complete = [
        checkpoint.folder
        for checkpoint in list_checkpoints(run / CHECKPOINTS)
        if checkpoint.phase == "answers" and (checkpoint.folder / "config.json").is_file()
    ]
    if not complete:
        raise TrainError(
            f"{run}: neither a final model nor a checkpoint of answers; train on with --resume, or give "
            "another folder"
        )
    return complete[-1]


def read_lineage(model: Path) -> tuple[Stage, ...]:
    """The runs that made a model, the first one first; empty where its folder is in no run.

    A run that started from the model of another is followed back to that one, as far as those can still
    be read. TrainError if the files of the last run cannot be read.
    """
    run = _run_of(model)
    if run is None:
        return ()
    stages = [_read_stage(run, _step(model))]
    while len(stages) < _MOST_STAGES:
        earlier = _earlier(stages[0].options.model.start)
        if earlier is None or any(earlier.facts == stage.facts for stage in stages):
            break
        stages.insert(0, earlier)
    return tuple(stages)


@dataclass(frozen=True)
class Part:
    """What has one source or one licence, alone or among others."""

    name: str
    pairs: int
    hours: float


def by_part(groups: Iterable[Group], separator: str) -> tuple[Part, ...]:
    """What is in some corpora, by what the last parts of the groups' keys are joined from, the largest first.

    A pair of several sources counts for each of them: the parts add up to more than there is.
    """
    pairs: Counter[str] = Counter()
    hours: dict[str, float] = defaultdict(float)
    for group in groups:
        for name in set(group.key[-1].split(separator)):
            pairs[name] += group.pairs
            hours[name] += group.hours
    return tuple(
        Part(name, pairs[name], hours[name]) for name in sorted(pairs, key=lambda name: (-pairs[name], name))
    )


def _read_scores(run: Path) -> tuple[dict[str, Any], ...]:
    """The rows of a run's `scores.json`; none where there is no such file. TrainError if it is not a list of rows."""
    path = run / SCORES
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        raise TrainError(f"{path}: not readable ({error}); make it anew, or take it away") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TrainError(f"{path}: not a list of rows; make it anew, or take it away")
    return tuple(rows)


def _run_of(model: Path) -> Path | None:
    folder = model.resolve()
    run = folder.parent if folder.name == MODEL else folder.parent.parent
    within = folder.name == MODEL or folder.parent.name == CHECKPOINTS
    return run if within and (run / FACTS).is_file() else None


def _earlier(start: str | None) -> Stage | None:
    """The run that a run started from, if it is on this disk and whole."""
    if start is None or not Path(start).is_dir():
        return None
    try:
        model = find_model(Path(start))
        run = _run_of(model)
        return _read_stage(run, _step(model)) if run is not None else None
    except NatureLMError:
        return None


def _step(model: Path) -> int | None:
    match = _ANSWERS.fullmatch(model.name)
    return int(match[1]) if match else None


def _read_stage(run: Path, step: int | None) -> Stage:
    options, facts = load_train_options(run / OPTIONS), read_facts(run)
    log = tuple(
        line for line in read_log(run) if step is None or line["phase"] != "answers" or line["step"] <= step
    )
    scores = _read_scores(run) if step is None else ()
    return Stage(options, facts, log, _read_corpora(options, facts), step, scores)


def _read_corpora(options: TrainOptions, facts: RunFacts) -> tuple[CorpusContent, ...]:
    """A corpus that is gone, damaged or of another build is there with its name alone."""
    folders = {_manifest_hash(folder): folder for folder in options.corpus}
    return tuple(_read_corpus(of, folders.get(of.manifest_hash)) for of in facts.corpora)


def _read_corpus(facts: CorpusFacts, folder: Path | None) -> CorpusContent:
    if folder is None:
        return CorpusContent(facts)
    try:
        found = corpus_statistics(folder, split="train", frequent=0)
    except NatureLMError:
        return CorpusContent(facts)
    return CorpusContent(facts, found.total.hours, found.sources.groups, found.licenses.groups)


def _manifest_hash(folder: Path) -> str | None:
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None
