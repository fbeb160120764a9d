"""What a run writes down about itself beside its numbers."""

import datetime
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from naturelm.corpus.storage import MANIFEST, Corpus
from naturelm.train.checkpoints import PHASES, RunCheckpoint
from naturelm.train.mixture import Mixture, MixtureRows, source_of
from naturelm.train.options import TrainError, TrainOptions
from naturelm.train.runlog import (
    FACTS,
    CorpusFacts,
    Resumption,
    RunFacts,
    State,
    hardware,
    read_facts,
    versions,
    write_facts,
)


def begin_facts(
    out: Path,
    options: TrainOptions,
    corpora: Sequence[Corpus],
    columns: MixtureRows,
    mixture: Mixture,
    processes: int,
) -> None:
    """Write the facts of a run that begins."""
    planned = {} if options.warm_up is None else {PHASES[0]: options.warm_up.steps}
    facts = RunFacts(
        name=options.name,
        started=_now(),
        command=("naturelm", *sys.argv[1:]),
        processes=processes,
        hardware=hardware(),
        versions=versions(),
        corpora=tuple(_corpus_facts(corpus) for corpus in corpora),
        planned_steps={**planned, PHASES[1]: options.steps},
        task_shares=_shares(columns.tasks, mixture.probabilities),
        source_shares=_shares([source_of(name) for name in columns.sources], mixture.probabilities),
    )
    write_facts(out, facts)


def resume_facts(out: Path, newest: RunCheckpoint, corpora: Sequence[Corpus]) -> None:
    """Note that a run goes on. TrainError if it would go on with other corpora."""
    before = read_facts(out)
    _require_same(out, before, corpora)
    resumed = (*before.resumed, Resumption(_now(), newest.phase, newest.step))
    write_facts(out, replace(before, resumed=resumed, state="running", finished=None, reason=None))


def _require_same(out: Path, before: RunFacts, corpora: Sequence[Corpus]) -> None:
    for then, now in zip_longest(before.corpora, map(_corpus_facts, corpora)):
        if then is None or now is None or then.manifest_hash != now.manifest_hash:
            name = (then or now).name if then or now else ""
            raise TrainError(
                f"{out}: the corpus {name} is not the one that this run began with; resume with that one"
            )


def close_facts(out: Path, state: State, reason: str | None) -> None:
    """Note how a run ended."""
    write_facts(out, replace(read_facts(out), state=state, finished=_now(), reason=reason))


def has_facts(out: Path) -> bool:
    """Whether a run got so far as to note anything."""
    return (out / FACTS).exists()


def is_finished(out: Path, corpora: Sequence[Corpus]) -> bool:
    """Whether a run came to its end. TrainError if it was one of other corpora."""
    if not has_facts(out):
        return False
    facts = read_facts(out)
    _require_same(out, facts, corpora)
    return facts.state == "finished"


def _shares(names: Sequence[str] | np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    shares: dict[str, float] = {}
    for name, probability in zip(names, probabilities.tolist(), strict=True):
        shares[name] = shares.get(name, 0.0) + probability
    return {name: share for name, share in sorted(shares.items()) if share > 0}


def _corpus_facts(corpus: Corpus) -> CorpusFacts:
    manifest = hashlib.sha256((corpus.folder / MANIFEST).read_bytes()).hexdigest()
    return CorpusFacts(str(corpus.manifest.get("name", corpus.folder.name)), manifest, len(corpus))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
