"""`naturelm bench compare` and `bench report`: runs to look at."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naturelm.cli.bench_run import PACKAGES
from naturelm.cli.common import EXIT_SOME_FAILED, complain, give_up
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.bench.running.runs import Run
    from naturelm.bench.suites.suite import Suite

_DRAWN = (*PACKAGES, "matplotlib", "scipy")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; the first is the yardstick.")
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Draw the main scores with their intervals: .png, .svg or .pdf.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of bootstrap and swaps.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Set runs side by side, with intervals, paired tests against the first, and published figures with their sources.

    Exit code: 0 done, 1 one of the runs is not finished, 2 nothing to compare.
    """
    try:
        need_packages("train", _DRAWN if plot else PACKAGES)
        # Here, not above: these load torch.
        from naturelm.bench.comparing_runs import compare_runs, comparison_to_markdown, plot_comparison
        from naturelm.bench.running.runs import read_run

        compared = compare_runs([read_run(folder) for folder in runs], seed=seed)
        if plot is not None:
            plot_comparison(compared, plot)
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps(compared.to_dict(), ensure_ascii=False))
    else:
        typer.echo(comparison_to_markdown(compared), nl=False)
    if plot is not None:
        typer.echo(f"wrote {plot}", err=True)
    _leave([name for name, of in zip(compared.names, compared.scores, strict=True) if not of.finished])


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="HTML file; default: RUN/report.html.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Where the sound is; default: where the run had it, if that is a folder."),
    ] = None,
    hardest: Annotated[int, typer.Option(min=0, help="Hardest rows of each component.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Write one HTML page about a run: scores, confusion, the hardest rows with a player and a spectrogram.

    Exit code: 0 done, 1 the run is not finished, or its sound is not at hand, 2 nothing to show.
    """
    try:
        need_packages("train", _DRAWN)
        # Here, not above: these load torch.
        from naturelm.bench.run_report import write_run_report
        from naturelm.bench.running.runs import read_run
        from naturelm.bench.scoring.run_scores import score_run

        found = read_run(run)
        suite = _suite(found, data)
        scores = score_run(found, seed=seed)
        path = write_run_report(found, scores, out or run / "report.html", suite=suite, hardest=hardest)
    except NatureLMError as error:
        give_up(error)
    typer.echo(str(path))
    if suite is None:
        complain("the sound of the run is not at hand, so the page has no players; give --data")
    _leave([scores.name] if not scores.finished else [])
    if suite is None:
        raise typer.Exit(EXIT_SOME_FAILED)


def _suite(run: "Run", data: str | None) -> "Suite | None":
    """The data of a run; None where it is not named and not in a folder. NatureLMError where it is other data."""
    from naturelm.bench.suites.opening import open_named_suite
    from naturelm.bench.suites.suite import Choice

    asked = run.about.get("request", {})
    there = str(asked.get("data", ""))
    if data is None and not (there and Path(there).exists()):
        return None
    components = tuple(run.tasks)
    choice = Choice(components, asked.get("limit"), asked.get("sample"), int(asked.get("seed") or 0))
    suite = open_named_suite(",".join(components), data or there, choice)
    if suite.fingerprint != run.about.get("data_sha256"):
        raise NatureLMError(f"{data or there}: has other rows than the run was asked; give --data with those")
    return suite


def _leave(unfinished: list[str]) -> None:
    for name in unfinished:
        complain(f"{name} is not finished: the command that began it goes on with it")
    if unfinished:
        raise typer.Exit(EXIT_SOME_FAILED)
