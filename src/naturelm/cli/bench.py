"""`naturelm bench`: BEANS-Zero's scores."""

import json
from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.bench_build import build
from naturelm.cli.bench_results import compare, report
from naturelm.cli.bench_run import run
from naturelm.cli.common import complain, exit_code, give_up
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

_PACKAGES = ("rapidfuzz", "sklearn", "yaml")
_SHOWN_FAULTS = 20

app = typer.Typer(
    help="BEANS-Zero: ask systems, score and compare them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(compare)
app.command()(report)
app.command()(build)


@app.callback()
def _group() -> None:
    """BEANS-Zero: ask systems, score and compare them."""


@app.command()
def systems(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the systems that `--model` knows by name."""
    from naturelm.bench.models.registry import SYSTEMS

    for system in SYSTEMS.values():
        written = f"{system.name}={system.place.upper()}" if system.place else system.name
        if as_json:
            typer.echo(json.dumps({"name": system.name, "written": written, "summary": system.summary}))
        else:
            typer.echo(f"{written}\n    {system.summary}")
    if not as_json:
        typer.echo("http://... or https://...\n    a server that keeps predictions_v1")
        typer.echo("module:function\n    a Python function of your own, from a list of BenchItem to answers")
        typer.echo(
            "anything else\n    a NatureLM-audio, by built-in name (`naturelm models`), folder or hub id"
        )


@app.command()
def score(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or JSON lines: dataset_name, prediction, label.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score any system's predictions as BEANS-Zero's published evaluator does.

    Beside the published metrics stands `exact`: the share right to the letter, before answers are matched to labels.
    Exit code: 0 all rows scored, 1 some were faulty or of no known component, 2 nothing scored.
    """
    try:
        need_packages("train", _PACKAGES)
        # Here, not above: these load torch and scikit-learn.
        from naturelm.bench.predictions import read_predictions
        from naturelm.bench.published import TASKS, published_scores
        from naturelm.bench.scoring.captions import with_spice
        from naturelm.train.markdown import table

        found = read_predictions(file)
        known = [row for row in found.rows if row.dataset_name in TASKS]
        scores, note = with_spice(published_scores(known), known)
    except NatureLMError as error:
        give_up(error)
    faults = [f"{file}, line {fault.line}: {fault.message}" for fault in found.faults]
    for name in sorted({row.dataset_name for row in found.rows} - set(TASKS)):
        faults.append(f"{file}: {name!r} is no component of BEANS-Zero; its rows are left out")
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {
                        "dataset_name": of.dataset_name,
                        "task": of.task,
                        "rows": of.rows,
                        **of.metrics,
                        "exact": of.exact,
                    }
                    for of in scores
                ]
            )
        )
    elif scores:
        rows = [
            (of.dataset_name, f"{of.rows:,}", name, f"{value:.4f}")
            for of in scores
            for name, value in (*of.metrics.items(), ("exact", of.exact))
        ]
        typer.echo(table(("component", "rows", "metric", "value"), rows))
    for told in (*found.notes, *([note] if note else [])):
        typer.echo(told, err=True)
    for fault in faults[:_SHOWN_FAULTS]:
        complain(fault)
    if len(faults) > _SHOWN_FAULTS:
        complain(f"and {len(faults) - _SHOWN_FAULTS} more")
    raise typer.Exit(exit_code(len(scores), len(faults)))
