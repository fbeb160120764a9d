"""`naturelm experiments`: how good a model is on what it has not been trained on."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naturelm.cli.common import (
    EXIT_NOTHING_USABLE,
    EXIT_SOME_FAILED,
    complain,
    exit_code,
    give_up,
    progress_on_stderr,
)
from naturelm.cli.extras import need_packages
from naturelm.cli.train import EXIT_STOPPED, TRAIN_EXTRA, TRAIN_PACKAGES
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.bench.experiments import Outcome, Processes
    from naturelm.bench.held_out import HeldOutReport

_PACKAGES = ("pyarrow", "scipy", "sklearn", "yaml")
_SHOWN_FAILURES = 20

app = typer.Typer(
    help="Score models on held-out data, and train those that answer a question.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Score models on held-out data, and train those that answer a question."""


@app.command()
def score(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Built-in name, folder or hub id.")],
    corpus: Annotated[Path, typer.Option(help="Folder of a corpus.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the scores and answers.")],
    component: Annotated[
        list[str] | None, typer.Option(help="A component to score; give it several times; default: all.")
    ] = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each component; default: all.")] = None,
    choices: Annotated[
        bool, typer.Option("--choices/--no-choices", help="Score closed sets of answers too.")
    ] = True,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline/--no-baseline", help="Train a plain classifier of the same corpus to compare with."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    llm: Annotated[
        str | None, typer.Option(help="Language model in place of the one that the checkpoint names.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the GPU if there is one.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows answered together.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score a model on the held-out part of a corpus, beside chance and a plain baseline.

    Writes scores.json, scores.md, answers.parquet, and confusion tables of the real animals.
    Exit code: 0 all rows answered, 1 some failed, 2 nothing scored.
    """
    try:
        need_packages("train", _PACKAGES)
        # Here, not above: these load torch.
        from naturelm.answer.engine import NatureLM
        from naturelm.bench.baseline import PlainBaseline
        from naturelm.bench.components import read_components
        from naturelm.bench.held_out import score_held_out
        from naturelm.bench.report import scores_to_markdown, write_report

        # Before the model, which takes longer to load than a wrong name to find.
        read_components(corpus, split=split, names=component)
        plain = PlainBaseline(corpus) if baseline else None
        answerer = NatureLM.from_pretrained(model, llm=llm, device=device, batch_size=batch_size)
        with progress_on_stderr("Scoring", 0) as (progress, bar):
            report = score_held_out(
                answerer,
                corpus,
                split=split,
                components=component,
                limit=limit,
                choices=choices,
                baseline=plain,
                seed=seed,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        title = f"{model} on {corpus.name}, {split}"
        files = write_report(report, out, title=title)
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps([of.to_dict() for of in report.scores], ensure_ascii=False))
    else:
        typer.echo(scores_to_markdown(report.scores, title=title))
    typer.echo(f"wrote {', '.join(str(path) for path in files)}", err=True)
    _leave(report)


def _leave(report: "HeldOutReport") -> None:
    from naturelm.corpus.show import printable

    failures = report.failures
    for failure in failures[:_SHOWN_FAILURES]:
        complain(printable(f"{failure.id}: {failure.error}"))
    if len(failures) > _SHOWN_FAILURES:
        complain(f"and {len(failures) - _SHOWN_FAILURES} rows more: see `error` in answers.parquet")
    if not report.scores:
        raise typer.Exit(EXIT_NOTHING_USABLE)
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def run(
    corpus: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the starter corpus.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the runs and results.")],
    seeds: Annotated[int, typer.Option(min=1, help="How often each arm is trained.")] = 3,
    start: Annotated[
        Path | None,
        # Not `--start`: torchrun would take that for its own `--start-method`.
        typer.Option(
            "--first-stage",
            metavar="RUN",
            help="Finished first stage for all seeds; default: one is trained for each.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each component; default: all.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change an option of the arms, such as steps=500; give several.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Answer the paper's four research questions on a small world.

    Trains four arms from the same first stage: all tasks, without speech and music, without counting animals, and
    without both; scores them on held-out rows, and writes experiments.json and experiments.md. What is in the
    folder already is not done again: the same command goes on where it was stopped.

    Exit code: 0 done, 1 an arm failed, 2 nothing to show, 130 stopped by a signal, after which there is a checkpoint.
    """
    try:
        need_packages(TRAIN_EXTRA, {*TRAIN_PACKAGES, *_PACKAGES})
        # Here, not above: these load torch.
        from naturelm.bench.experiment_report import write_findings
        from naturelm.bench.experiments import (
            ExperimentOptions,
            describe_plan,
            plan_experiments,
            run_experiments,
        )
        from naturelm.train.run import train

        processes = _processes()
        plan = plan_experiments(ExperimentOptions(corpus, out, seeds, start, limit, tuple(changes or ())))
        tell = (lambda line: typer.echo(line, err=True)) if processes.number == 0 else (lambda line: None)
        tell(describe_plan(plan))
        # Training prints sample answers: stdout is for the results.
        with redirect_stdout(sys.stderr), _terminated_as_interrupted():
            outcome = run_experiments(plan, train, _score_with_bar, tell, processes)
        if processes.number:
            return
        files = write_findings(plan, outcome) if outcome.scores else []
    except NatureLMError as error:
        give_up(error)
    if files:
        typer.echo(files[0 if as_json else 1].read_text(encoding="utf-8"), nl=False)
        typer.echo(f"wrote {', '.join(str(path) for path in files)}", err=True)
    _leave_run(outcome)


def _processes() -> "Processes":
    """Those that torchrun has started, as it tells them."""
    from accelerate import PartialState
    from torch.cuda import is_available

    from naturelm.bench.experiments import Processes

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    state = PartialState(cpu=not is_available())
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


def _score_with_bar(model: Path, corpus: Path, *, limit: int | None) -> "HeldOutReport":
    from naturelm.bench.experiments import score_model

    with progress_on_stderr("Scoring", 0) as (progress, bar):
        return score_model(
            model,
            corpus,
            limit=limit,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM between trainings, which have a way of their own with it, is as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_run(outcome: "Outcome") -> None:
    for failure in outcome.failures:
        complain(f"seed {failure.seed}, {failure.name}: {failure.reason}")
    if outcome.stopped:
        complain("stopped by a signal; the same command goes on")
        raise typer.Exit(EXIT_STOPPED)
    raise typer.Exit(exit_code(len(outcome.scores), len(outcome.failures)))
