"""`naturelm bench run`: a system through a suite."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naturelm.cli.common import complain, exit_code, give_up, progress_on_stderr
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.bench.running.journal import RunRow
    from naturelm.bench.suites.suite import Suite

PACKAGES = ("pyarrow", "rapidfuzz", "sklearn", "yaml")
EXIT_STOPPED = 130
_SHOWN = 5


def run(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="NatureLM-audio by name, folder or hub id; a system (NAME or NAME=PLACE; see `bench systems`); "
            "http(s)://...; or module:callable.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run.")],
    suite: Annotated[
        str, typer.Option(help="beans-zero, beans-mini, or components with commas between.")
    ] = "beans-zero",
    data: Annotated[
        str | None,
        typer.Option(help="Folder, Arrow or Parquet file, or hub id; default: BEANS-Zero on the hub."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of the data on the hub.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first rows of each component; default: all.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many rows of each component, drawn with --seed.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the sample, of shuffled options, of the bootstrap.")
    ] = 0,
    answers: Annotated[
        str, typer.Option(help="generate, choose (score the labels of closed sets), or both.")
    ] = "both",
    most_choices: Annotated[
        int | None,
        typer.Option(
            min=2, help="Labels of the largest closed set that is scored; default: 300, of beans-mini 50."
        ),
    ] = None,
    merging_alpha: Annotated[float, typer.Option(help="Scale of the LoRA adapter, 0 to 1.")] = 1.0,
    wording: Annotated[
        list[str] | None,
        typer.Option(
            help="Another wording, with {prompt} for the question and {options} for the closed set; give several."
        ),
    ] = None,
    orders: Annotated[int, typer.Option(min=0, help="Ask again with options shuffled, so often.")] = 0,
    llm: Annotated[
        str | None, typer.Option(help="Language model in place of the one that the checkpoint names.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A system's own setting; give several."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the GPU if there is one.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus whose training rows a floor learns from.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows asked together; default 32, and 256 of beans-mini's short clips."),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            help="Seconds for the answers to a batch; later ones are errors. Default 20 a row, at least 600."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Ask a system the questions of a suite, and score what it answers.

    Answers are appended to predictions.jsonl as they come; the same command goes on where it was stopped. Writes run.json
    (system, revision, prompts, versions, seed), scores.json and scores.md.

    Exit code: 0 all rows answered, 1 some failed (they count as wrong), 2 nothing done, 130 stopped.
    """
    try:
        need_packages("train", PACKAGES)
        # Here, not above: these load torch.
        from naturelm.bench.running.asking import HangingError
        from naturelm.bench.running.prompts import variants_of
        from naturelm.bench.running.runner import RunOptions
        from naturelm.bench.running.runs import RunRequest, read_run, run_suite
        from naturelm.bench.scoring.run_scores import score_run
        from naturelm.bench.scoring.tables import scores_to_markdown, write_scores
        from naturelm.bench.suites.opening import components_of, is_mini, open_named_suite
        from naturelm.bench.suites.suite import Choice
        from naturelm.bench.systems import (
            FEW_CHOICES,
            MANY_ROWS,
            SystemOptions,
            Ways,
            open_system,
            read_settings,
        )

        if answers not in set(Ways):
            raise NatureLMError(f"--answers {answers!r}: must be one of {', '.join(Ways)}")
        batch_size = batch_size or (MANY_ROWS if is_mini(suite) else 32)
        how = RunOptions(batch_size, time_limit)
        variants = variants_of(wording or (), orders, seed)
        choice = Choice(components_of(suite), limit, sample, seed)
        found = open_named_suite(suite, data, choice, revision=revision)
        options = SystemOptions(
            ways=Ways(answers),
            most_choices=most_choices or (FEW_CHOICES if is_mini(suite) else 300),
            merging_alpha=merging_alpha,
            llm=llm,
            corpus=corpus,
            seed=seed,
            settings=read_settings(changes or ()),
            device=device,
            batch_size=batch_size,
        )
        system = open_system(model, found, options)
        request = RunRequest(
            model=model,
            suite=suite,
            data=found.files.name,
            components=tuple(found.tasks),
            limit=limit,
            sample=sample,
            seed=seed,
            wordings=tuple(wording or ()),
            orders=orders,
            settings=options.to_dict(),
            batch_size=batch_size,
        )
        count, hanging = None, None
        with progress_on_stderr("Asking", 0) as (progress, bar), _stopped_by_sigterm():
            try:
                count = run_suite(
                    system,
                    found,
                    out,
                    request,
                    variants,
                    how,
                    progress=lambda done, total: progress.update(bar, completed=done, total=total),
                )
            except HangingError as error:
                hanging = error  # what it answered before is scored all the same
        done = read_run(out)
        scores = score_run(done, seed=seed)
        files = write_scores(scores, out)
    except KeyboardInterrupt:
        complain(f"stopped; what is answered is in {out}, and the same command goes on")
        raise typer.Exit(EXIT_STOPPED) from None
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(files[0].read_text(encoding="utf-8"), nl=False)
    else:
        typer.echo(scores_to_markdown(scores))
    if count is not None:
        speed = f", {count.asked / count.seconds:.1f} rows a second" if count.asked and count.seconds else ""
        typer.echo(f"{count.asked:,} of {count.rows:,} rows asked now{speed}", err=True)
    typer.echo(f"wrote {', '.join(map(str, files))}", err=True)
    _tell_of_data(found)
    if hanging is not None:
        give_up(hanging)
    _leave(
        [row for rows in (done.rows, *done.variants.values()) for row in rows if row.error],
        len(done.rows),
        # Whoever asks for the whole has what the data has; whoever names a component misses it.
        len(found.faults) + (len(found.absent) if choice.components else 0),
    )


def _tell_of_data(suite: "Suite") -> None:
    if suite.absent:
        complain(f"{suite.files.name}: no rows of {', '.join(suite.absent)}")
    for fault in suite.faults[:_SHOWN]:
        complain(fault)
    if len(suite.faults) > _SHOWN:
        complain(f"and {len(suite.faults) - _SHOWN} rows more that cannot be used")


def _leave(failed: "list[RunRow]", rows: int, faults: int) -> None:
    from naturelm.corpus.show import printable

    for row in failed[:_SHOWN]:
        complain(printable(f"{row.dataset_name} {row.id}: {row.error}"))
    if len(failed) > _SHOWN:
        complain(f"and {len(failed) - _SHOWN:,} rows more: see `error` in predictions.jsonl")
    raise typer.Exit(exit_code(max(rows - len(failed), 0), len(failed) + faults))


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C: the batch in hand is lost, the journal is whole."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
