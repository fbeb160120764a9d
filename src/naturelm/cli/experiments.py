"""`naturelm experiments`: how good a model is on what it has not been trained on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naturelm.cli.common import EXIT_NOTHING_USABLE, EXIT_SOME_FAILED, complain, give_up, progress_on_stderr
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.bench.held_out import HeldOutReport

_PACKAGES = ("pyarrow", "scipy", "sklearn", "yaml")
_SHOWN_FAILURES = 20

app = typer.Typer(help="Score models on held-out data.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Score models on held-out data."""


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
