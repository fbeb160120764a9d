"""`naturelm train`: train a model, report on a run, and list the configurations that ship."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from naturelm.cli.common import EXIT_NOTHING_USABLE, EXIT_SOME_FAILED, complain, give_up
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.train.run import TrainReport

EXIT_STOPPED = 130
TRAIN_EXTRA = "train"
TRAIN_PACKAGES = ("accelerate", "matplotlib", "pyarrow", "pydantic", "scipy", "tensorboard", "yaml")
_TRAIN = "CONFIG"


class _ConfigOrCommand(TyperGroup):
    """A group whose first argument is a command, or else the configuration to train."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        command = args[0] if args else ""
        if command in self.commands and command != _TRAIN:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[_TRAIN].make_context(info_name, args or ["--help"], parent, **extra)


app = typer.Typer(
    cls=_ConfigOrCommand,
    help="Train a model: `naturelm train CONFIG --out RUN`; also `train report RUN`, `train configs`.",
    pretty_exceptions_enable=False,
)


@app.command(_TRAIN, hidden=True)
def train(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="YAML file, or a name that `naturelm train configs` lists."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run.")],
    corpus: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Corpus to train on, in place of the file's own; give several."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change an option, such as optimizer.learning_rate=1e-4; give several.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what an earlier run left in the folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Train a model as CONFIG says.

    `naturelm train report RUN` draws a run's curves on one page; `naturelm train configs` lists configurations.
    On several processes: torchrun --nproc-per-node N -m naturelm train CONFIG --out RUN.

    Exit code: 0 done, 1 stopped by a fault in training, 2 cannot be started, 130 stopped by a signal.
    After 1 and 130 there is a checkpoint to resume from.
    """
    try:
        if resume and fresh:
            raise NatureLMError("--resume and --fresh: give one of the two")
        need_packages(TRAIN_EXTRA, TRAIN_PACKAGES)
        from naturelm.train.options import load_train_options

        options = load_train_options(config, changes or (), corpus or ())
        from naturelm.train.run import train as train_model

        report = train_model(options, out, resume=resume, fresh=fresh)
    except NatureLMError as error:
        _give_up(error)
    if _prints():
        _print_report(report, as_json)
    raise typer.Exit({"finished": 0, "stopped": EXIT_STOPPED}.get(report.state, EXIT_SOME_FAILED))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, finished or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.html", help="Default: RUN/report.html.")
    ] = None,
) -> None:
    """Write one HTML page about a run: loss, tasks, what was drawn, learning rate, speed, mistakes."""
    try:
        need_packages(TRAIN_EXTRA, TRAIN_PACKAGES)
        from naturelm.train.report import write_report

        path = write_report(run, out or run / "report.html")
    except NatureLMError as error:
        give_up(error)
    typer.echo(f"wrote {path}")


@app.command()
def configs(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the configurations that come with this package, and their files."""
    try:
        need_packages(TRAIN_EXTRA, TRAIN_PACKAGES)
        from naturelm.train.options import shipped_configurations
    except NatureLMError as error:
        give_up(error)
    shipped = shipped_configurations()
    width = max(map(len, shipped))
    for name, path in shipped.items():
        about = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        row = {"name": name, "about": about, "file": str(path)}
        typer.echo(json.dumps(row, ensure_ascii=False) if as_json else f"{name:<{width}}  {about}")


def _prints() -> bool:
    """Whether this is the only process, or the one that speaks for those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _give_up(error: NatureLMError) -> NoReturn:
    if _prints():
        complain(str(error))
    raise typer.Exit(EXIT_NOTHING_USABLE)


def _print_report(made: "TrainReport", as_json: bool) -> None:
    known = made.loss is not None and math.isfinite(made.loss)
    if as_json:
        row = {**dataclasses.asdict(made), "folder": str(made.folder), "loss": made.loss if known else None}
        typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        loss = f", loss {made.loss:.4g}" if known else ""
        typer.echo(f"{made.folder}: {made.state} after {made.steps:,} steps{loss}")
    if made.state != "finished":
        complain(made.reason + ("; go on with --resume" if made.state == "stopped" else ""))
