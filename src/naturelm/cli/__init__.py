"""The command line. Commands import what they need when they run."""

import typer

from naturelm.cli.ask import ask
from naturelm.cli.bench import app as bench
from naturelm.cli.corpus import app as corpus
from naturelm.cli.experiments import app as experiments
from naturelm.cli.export import export
from naturelm.cli.info import info
from naturelm.cli.models import app as models
from naturelm.cli.scan import app as scan
from naturelm.cli.search import embed, search
from naturelm.cli.serve import serve
from naturelm.cli.train import app as train

app = typer.Typer(
    name="naturelm",
    help="Ask recordings of nature questions in plain words.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ask)
app.add_typer(scan, name="scan", help="Scan long recordings: windows in, tables of events out.")
app.command()(embed)
app.command()(search)
app.command()(serve)
app.add_typer(models, name="models")
app.command()(info)
app.add_typer(corpus, name="corpus")
app.add_typer(train, name="train")
app.command()(export)
app.add_typer(experiments, name="experiments")
app.add_typer(bench, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        from naturelm import __version__

        typer.echo(f"naturelm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Ask recordings of nature questions in plain words."""


def main() -> None:
    """Entry point of the `naturelm` command."""
    app()
