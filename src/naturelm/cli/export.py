"""`naturelm export`: write a trained model in our layout or the official one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.common import give_up
from naturelm.cli.extras import need_packages
from naturelm.cli.train import TRAIN_EXTRA, TRAIN_PACKAGES
from naturelm.errors import NatureLMError


class Layout(StrEnum):
    """Layouts that `--to` knows."""

    NATURELM = "naturelm"
    OFFICIAL = "official"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    to: Annotated[Layout, typer.Option("--to", help="Layout: ours, or that of the official checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")],
    license: Annotated[
        str | None, typer.Option(help="The model's licence, for its card, such as apache-2.0.")
    ] = None,
) -> None:
    """Write a run's model with its model card: data, steps, hardware, results, limits, licences."""
    try:
        need_packages(TRAIN_EXTRA, TRAIN_PACKAGES)
        from naturelm.train.export import export_run

        folder = export_run(run, to.value, out, license=license)
    except NatureLMError as error:
        give_up(error)
    typer.echo(f"wrote {folder}")
