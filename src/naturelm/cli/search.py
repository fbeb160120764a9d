"""`naturelm embed` and `naturelm search`: recordings as points, and what lies near an example."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.common import complain, exit_code, give_up, progress_on_stderr
from naturelm.cli.extras import need_packages
from naturelm.cli.scan_options import PACKAGES, JsonOption
from naturelm.errors import NatureLMError


def embed(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, and folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.")] = Path(
        "embeddings.parquet"
    ),
    model: Annotated[
        str, typer.Option("--model", "-m", help="birdnet, or a NatureLM, whose ear it is.")
    ] = "birdnet",
    window: Annotated[
        float | None, typer.Option(help="Length of a window, s; default: the model's own.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Between windows' starts, s; default: the window.")
    ] = None,
    start: Annotated[float, typer.Option(help="Where to start in every recording, s.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end in every recording, s.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel, from 0; default: the mean of all.")] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="One embedding a recording, not one a window.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; default: a GPU if there is one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what an ear hears of each window, as numbers to search in or to learn from.

    Exit code: 0 all embedded, 1 some recordings could not be read, 2 nothing embedded.
    """
    try:
        need_packages("scan", PACKAGES)
        from naturelm.scan.embedding import embed_recordings, open_embedder
        from naturelm.scan.finding import find_recordings
        from naturelm.scan.options import CutOptions

        recordings = find_recordings(paths)
        embedder = open_embedder(model, device)
        cut = CutOptions(embedder.default_window if window is None else window, hop, start, end, channel)
        with progress_on_stderr("Embedding", len(recordings)) as (progress, task):
            report = embed_recordings(
                recordings,
                embedder,
                cut,
                out,
                mean=mean,
                progress=lambda done: progress.update(task, completed=done),
            )
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        typer.echo(f"{report.rows} embeddings of {report.recordings} recordings: {out}")
    for failed in report.failures:
        complain(failed.error)
    raise typer.Exit(exit_code(report.recordings, len(report.failures)))


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Embeddings, from `naturelm embed`.")],
    like: Annotated[
        Path, typer.Option(help="An example clip, or a folder with a folder of clips for each label.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Windows to show of each label.")] = 20,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Learn a linear probe from the examples (1 to 20 windows a label)."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the windows drawn as background for the probe.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; default: a GPU if there is one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the windows nearest to examples: a CSV of label, score, start and end (s) and file, the best first.

    Exit code: 0 searched, 2 not.
    """
    try:
        need_packages("scan", (*PACKAGES, "sklearn"))
        from naturelm.scan.embedding import open_embedder, read_made_with
        from naturelm.scan.options import ScanError
        from naturelm.scan.searching import nearest, read_examples
        from naturelm.scan.searching import probe as learn

        made = read_made_with(file)
        embedder = open_embedder(made.model, device)
        if embedder.revision != made.revision:
            raise ScanError(f"{file}: {made.model} has changed since it was made; run naturelm embed again")
        examples = read_examples(like, embedder, made.window)
        hits = learn(file, examples, top, seed=seed) if probe else nearest(file, examples, top)
    except NatureLMError as error:
        give_up(error)
    if as_json:
        for hit in hits:
            typer.echo(json.dumps(asdict(hit), ensure_ascii=False))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("Label", "Score", "Start (s)", "End (s)", "File"))
    writer.writerows((h.label, f"{h.score:.4f}", f"{h.start:.3f}", f"{h.end:.3f}", h.recording) for h in hits)
