"""`naturelm bench build`: BEANS-Zero from what it was made of."""

from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.bench_run import PACKAGES
from naturelm.cli.common import EXIT_NOTHING_USABLE, EXIT_SOME_FAILED, complain, give_up, progress_on_stderr
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

_SHOWN = 10


def build(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the data.")],
    beans: Annotated[
        Path | None, typer.Option(help="The data folder of BEANS, prepared by that benchmark's own scripts.")
    ] = None,
    xeno_canto: Annotated[Path | None, typer.Option(help="Folder of Xeno-canto recordings.")] = None,
    inaturalist: Annotated[Path | None, typer.Option(help="Folder of iNaturalist sounds.")] = None,
    animal_sound_archive: Annotated[
        Path | None, typer.Option(help="Folder of the Animal Sound Archive.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="CSV with id (of an iNaturalist sound) and caption.")
    ] = None,
    component: Annotated[
        list[str] | None, typer.Option(help="A component to build; give several; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw where more recordings fit.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Build BEANS-Zero from the original data sets on disk, and tell the rows built of those expected.

    Writes one Parquet file a component, which `bench run --data DIR` reads, and build.json.
    Exit code: 0 all rows of all components, 1 some are missing, 2 nothing built.
    """
    try:
        need_packages("train", PACKAGES)
        # Here, not above: these load pyarrow.
        from naturelm.bench.building.build import REPORT, Sources, build_beans_zero
        from naturelm.train.markdown import table

        sources = Sources(beans, xeno_canto, inaturalist, animal_sound_archive, captions)
        with progress_on_stderr("Building", 0) as (progress, bar):
            found = build_beans_zero(
                sources,
                out,
                components=component,
                seed=seed,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo((out / REPORT).read_text(encoding="utf-8"), nl=False)
    else:
        rows = [
            (
                of.dataset_name,
                f"{of.built:,}",
                f"{of.expected:,}",
                len(of.unknown_labels),
                f"{of.faults:,}",
                of.note,
            )
            for of in found
        ]
        typer.echo(table(("component", "built", "expected", "labels missing", "faults", "note"), rows))
    examples = [f"{of.dataset_name}: {fault}" for of in found for fault in of.examples]
    for example in examples[:_SHOWN]:
        complain(example)
    if sum(of.faults for of in found) > _SHOWN:
        complain(f"and {sum(of.faults for of in found) - _SHOWN:,} more: see {out / REPORT}")
    if not any(of.built for of in found):
        raise typer.Exit(EXIT_NOTHING_USABLE)
    if not all(of.complete for of in found):
        raise typer.Exit(EXIT_SOME_FAILED)
