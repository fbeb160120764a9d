"""`naturelm scan report`: a scan in numbers, and beside annotations made by hand."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naturelm.cli.common import give_up
from naturelm.cli.extras import need_packages
from naturelm.cli.scan_options import PACKAGES, Gap, JsonOption, LeastSeconds, Merge, MinConfidence, Top
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.scan.agreement import Counts, LabelAgreement

_SHOWN_LABELS = 40


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a scan.")],
    annotations: Annotated[
        list[Path] | None,
        typer.Option("--annotations", "-a", help="Raven table or Audacity labels; several are fine."),
    ] = None,
    iou: Annotated[float, typer.Option(help="Least overlap of an event and an annotation, 0 to 1.")] = 0.5,
    label_column: Annotated[
        str | None, typer.Option(help="Column of a Raven table that names what was heard.")
    ] = None,
    min_confidence: MinConfidence = None,
    top: Top = None,
    merge: Merge = False,
    merge_gap: Gap = 0.0,
    min_length: LeastSeconds = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a scan and, with --annotations, how well it agrees with them.

    Exit code: 0 reported, 2 not.
    """
    try:
        need_packages("scan", PACKAGES)
        from naturelm.scan.events import EventOptions
        from naturelm.scan.summary import compare, summarise

        options = EventOptions(min_confidence, top, merge or merge_gap > 0, merge_gap, min_length)
        summary = summarise(out, options)
        rows = (
            compare(out, annotations, options, least_iou=iou, label_column=label_column)
            if annotations
            else []
        )
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(
            json.dumps({**asdict(summary), "agreement": [_plain(row) for row in rows]}, ensure_ascii=False)
        )
        return
    typer.echo(
        f"{summary.model}: {summary.recordings} recordings, {summary.hours:.2f} h, {summary.windows:,} windows, "
        f"{summary.unheard:,} skipped as silence; {summary.failures} recordings with faults"
    )
    for label, number in list(summary.labels.items())[:_SHOWN_LABELS]:
        typer.echo(f"{number:8,}  {label}")
    if len(summary.labels) > _SHOWN_LABELS:
        typer.echo(f"and {len(summary.labels) - _SHOWN_LABELS} more labels")
    if rows:
        _print_agreement(rows)


def _plain(row: "LabelAgreement") -> dict[str, Any]:
    return {
        "label": row.label,
        "events": _counted(row.events),
        "seconds": _counted(row.seconds),
        "average_precision": _number(row.average_precision),
    }


def _counted(counts: "Counts") -> dict[str, Any]:
    shares = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return {**asdict(counts), **{name: _number(value) for name, value in shares.items()}}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _print_agreement(rows: "list[LabelAgreement]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ("label", "hits", "false", "missed", "precision", "recall", "F1", "F1 by second", "AP")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "label" else "right", overflow="fold")
    for row in rows:
        events = row.events
        shares = (events.precision, events.recall, events.f1, row.seconds.f1, row.average_precision)
        cells = [row.label, str(events.hits), str(events.false_alarms), str(events.misses)]
        cells += ["-" if math.isnan(share) else f"{share:.3f}" for share in shares]
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=140).print(table)
