"""`naturelm scan`: months of recordings to tables of events."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from naturelm.cli.common import EXIT_NOTHING_USABLE, EXIT_SOME_FAILED, complain, give_up
from naturelm.cli.extras import need_packages
from naturelm.cli.scan_options import (
    PACKAGES,
    Clips,
    Gap,
    Html,
    JsonOption,
    LeastSeconds,
    Merge,
    MinConfidence,
    Relative,
    TimeZone,
    Top,
)
from naturelm.cli.scan_report import report
from naturelm.errors import NatureLMError
from naturelm.model.registry import DEFAULT_MODEL
from naturelm.scan.names import Format, Preset, Spread

if TYPE_CHECKING:
    from naturelm.scan.opening import EngineOptions
    from naturelm.scan.run import Progress, ScanReport

EXIT_INTERRUPTED = 130
_SHOWN_FAILURES = 20


class _ScanGroup(TyperGroup):
    """`scan export` and `scan report` are commands; anything else is what to scan."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["run", *(args or ["--help"])]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ScanGroup, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Scan long recordings: windows in, tables of events out."""


@app.command(
    epilog="`naturelm scan export OUT --to raven` writes other tables of a finished scan, and `naturelm scan report OUT` "
    "says what is in it: see their --help."
)
def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Recordings, and folders of them to any depth."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables and the journal.")] = Path(
        "scan"
    ),
    list_file: Annotated[
        list[Path] | None, typer.Option("--list", help="File with the path of a recording or folder a line.")
    ] = None,
    detect: Annotated[
        str | None, typer.Option(help="Labels to score in every window, separated by commas.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File with a label a line: plain, or `Scientific name_Common name`.")
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option("--ask", help="Question to be answered freely; several are fine.")
    ] = None,
    preset: Annotated[
        list[Preset] | None, typer.Option("--preset", help="Question by its name; several are fine.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Built-in name, folder, hub id, or `birdnet`.")
    ] = DEFAULT_MODEL,
    llm: Annotated[str | None, typer.Option(help="Language model in place of the checkpoint's own.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Length of a window, s; default: the model's own.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="From one window's start to the next, s; default: the window.")
    ] = None,
    start: Annotated[float, typer.Option(help="Where to start in every recording, s.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end in every recording, s.")] = None,
    channel: Annotated[int | None, typer.Option(help="Channel, from 0; default: the mean of all.")] = None,
    gate: Annotated[
        float | None,
        typer.Option(help="Skip windows quieter than this, dB relative to full scale, such as -60."),
    ] = None,
    lat: Annotated[float | None, typer.Option(help="birdnet: latitude, degrees north.")] = None,
    lon: Annotated[float | None, typer.Option(help="birdnet: longitude, degrees east.")] = None,
    week: Annotated[
        int | None, typer.Option(help="birdnet: week, 1 to 48, four a month; default: all.")
    ] = None,
    occurrence: Annotated[
        float, typer.Option(help="birdnet: least frequency of a species at the place and time.")
    ] = 0.03,
    floor: Annotated[
        float | None, typer.Option(help="birdnet: least score that is kept at all; default: 0.01.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Windows at once; default: found by itself.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.")
    ] = None,
    engine: Annotated[
        Spread,
        typer.Option(help="local: this process; ray: a cluster (RAY_ADDRESS), or the cores of this machine."),
    ] = Spread.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="ray on this machine: processes; default: one a core.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do part i of n, as `2/8`: one process each, into the same folder.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what was scanned there before.")] = False,
    min_confidence: MinConfidence = None,
    top: Top = None,
    merge: Merge = False,
    merge_gap: Gap = 0.0,
    min_length: LeastSeconds = 0.0,
    to: Annotated[list[Format] | None, typer.Option("--to", help="Tables to write; default: csv.")] = None,
    time_zone: TimeZone = None,
    clips: Clips = 0,
    html: Html = False,
    relative_paths: Relative = False,
    as_json: JsonOption = False,
) -> None:
    """Scan recordings of any length; a scan that was stopped goes on where it was.

    Exit code: 0 all scanned, 1 some recordings could not be read (failures.csv), 2 nothing scanned, 130 stopped.
    """
    try:
        need_packages("scan", PACKAGES)
        # Here, not above: these load numpy, pyarrow and, for NatureLM, torch.
        from dataclasses import replace

        from naturelm.scan.events import EventOptions
        from naturelm.scan.export import ExportOptions, export
        from naturelm.scan.finding import find_recordings
        from naturelm.scan.options import CutOptions, ScanError, Shard
        from naturelm.scan.run import scan_recordings
        from naturelm.scan.times import parse_time_zone

        exporting = ExportOptions(
            events=EventOptions(min_confidence, top, merge or merge_gap > 0, merge_gap, min_length),
            formats=tuple(to or (Format.CSV,)),
            time_zone=None if time_zone is None else parse_time_zone(time_zone),
            clips=clips,
            html=html,
            relative=relative_paths,
        )
        part = Shard.parse(shard) if shard is not None else Shard()
        options = _engine(
            detect,
            labels,
            ask,
            preset,
            model,
            llm,
            device,
            max_new_tokens,
            (lat, lon, week, occurrence, floor),
        )
        recordings = find_recordings(paths or [], lists=list_file or [], without=out)
        # Before a model is loaded for nothing: 1 s stands for the model's own length.
        cut = CutOptions(1.0 if window is None else window, hop, start, end, channel, gate)
        if engine is Spread.RAY:
            need_packages("ray", ("ray",))
            if shard is not None:
                raise ScanError("--engine ray and --shard exclude each other; choose one")
        elif workers is not None:
            raise ScanError("--workers: is for --engine ray; leave it out")
        listener = options.open()
        cut = replace(cut, window=listener.default_window if window is None else window)
        with _stopping() as stop, _progress_line() as progress:
            if engine is Spread.RAY:
                from naturelm.scan.cluster import scan_on_cluster

                report = scan_on_cluster(
                    recordings,
                    options,
                    listener,
                    cut,
                    out,
                    address=os.environ.get("RAY_ADDRESS"),
                    workers=workers,
                    fresh=fresh,
                    batch_size=batch_size,
                    stop=stop,
                    progress=progress,
                )
            else:
                report = scan_recordings(
                    recordings,
                    listener,
                    cut,
                    out,
                    fresh=fresh,
                    batch_size=batch_size,
                    shard=part,
                    stop=stop,
                    progress=progress,
                )
        events = export(out, exporting).events if report.complete and not report.interrupted else None
    except (NatureLMError, ValueError) as error:
        give_up(error)
    except KeyboardInterrupt:
        typer.echo("stopped at once; the same command goes on with what is not finished", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _finish(out, report, events, as_json=as_json, sharded=part.count > 1)


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a scan.")],
    to: Annotated[list[Format] | None, typer.Option("--to", help="Tables to write; default: csv.")] = None,
    min_confidence: MinConfidence = None,
    top: Top = None,
    merge: Merge = False,
    merge_gap: Gap = 0.0,
    min_length: LeastSeconds = 0.0,
    time_zone: TimeZone = None,
    clips: Clips = 0,
    html: Html = False,
    relative_paths: Relative = False,
    as_json: JsonOption = False,
) -> None:
    """Write tables of what is scanned so far; no model is needed.

    Exit code: 0 written, 2 not.
    """
    try:
        need_packages("scan", PACKAGES)
        from dataclasses import asdict

        from naturelm.scan.events import EventOptions
        from naturelm.scan.export import ExportOptions, export
        from naturelm.scan.times import parse_time_zone

        options = ExportOptions(
            events=EventOptions(min_confidence, top, merge or merge_gap > 0, merge_gap, min_length),
            formats=tuple(to or (Format.CSV,)),
            time_zone=None if time_zone is None else parse_time_zone(time_zone),
            clips=clips,
            html=html,
            relative=relative_paths,
        )
        written = export(out, options)
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps(asdict(written)))
    else:
        typer.echo(f"{written.events} events of {written.recordings} recordings: {out}")


app.command("report")(report)


def _engine(
    detect: str | None,
    labels: Path | None,
    ask: list[str] | None,
    preset: list[Preset] | None,
    model: str,
    llm: str | None,
    device: str | None,
    max_new_tokens: int,
    bird: tuple[float | None, float | None, int | None, float, float | None],
) -> "EngineOptions":
    from naturelm.scan.birdnet_place import Place
    from naturelm.scan.opening import EngineOptions
    from naturelm.scan.options import PRESET_QUESTIONS, ScanError, parse_labels

    lat, lon, week, occurrence, floor = bird
    if (lat is None) != (lon is None) or (week is not None and lat is None):
        raise ScanError("--lat and --lon go together, and --week needs them")
    if detect is not None and labels is not None:
        raise ScanError("--detect and --labels exclude each other; give one")
    written: tuple[str, ...] | None = None
    if detect is not None:
        written = tuple(detect.split(",")) if detect.strip() else ()
    elif labels is not None:
        try:
            lines = labels.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ScanError(
                f"{labels}: not a readable text file ({error}); give one label a line, UTF-8"
            ) from error
        written = tuple(line for line in lines if line.strip())
    questions = [PRESET_QUESTIONS[name] for name in preset or ()] + list(ask or ())
    return EngineOptions(
        model=model,
        labels=() if written is None else parse_labels(written),
        questions=tuple(dict.fromkeys(questions)),
        llm=llm,
        device=device,
        max_new_tokens=max_new_tokens,
        place=None if lat is None or lon is None else Place(lat, lon, week, occurrence),
        floor=floor,
    )


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; a second one stops at once."""
    asked = False

    def note(_signal: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        typer.echo(
            "\nstopping: the current recording is finished first; press Ctrl-C again to stop at once",
            err=True,
        )

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, where no signal arrives
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress_line() -> Iterator[Callable[["Progress"], None]]:
    """One line on stderr that is kept up to date; nothing where that is no terminal."""
    shown = 0.0

    def show(state: "Progress") -> None:
        nonlocal shown
        now = time.monotonic()
        if sys.stderr.isatty() and state.elapsed > 2 and now - shown > 0.5:
            shown = now
            sys.stderr.write(f"\r\x1b[K{progress_text(state)}")
            sys.stderr.flush()

    try:
        yield show
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")


def progress_text(state: "Progress") -> str:
    """How far a scan has come, in one line."""
    speed = state.seconds / max(state.elapsed, 1e-3)
    done = f"{state.recordings} of {state.of_recordings} recordings"
    text = f"{done}, {state.seconds / 3600:.1f} h of sound, {speed:.0f}x real time"
    if state.size > 0:
        left = state.elapsed * (state.of_size / state.size - 1)
        text += f", {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left"
    return text


def _finish(out: Path, report: "ScanReport", events: int | None, *, as_json: bool, sharded: bool) -> None:
    from dataclasses import asdict

    from naturelm.scan.journal import Journal

    failures = Journal(out).failures()
    if as_json:
        typer.echo(json.dumps({**asdict(report), "events": events, "out": str(out)}))
    else:
        speed = report.seconds / max(report.elapsed, 1e-3)
        earlier = f", {report.earlier} before" if report.earlier else ""
        typer.echo(
            f"{report.done} recordings scanned{earlier}: {report.seconds / 3600:.2f} h of sound in {report.elapsed:.0f} s"
            f" ({speed:.0f}x real time), {report.windows} windows, {report.unheard} of them skipped as silence"
        )
        if events is not None:
            typer.echo(f"{events} events: {out}")
    for failed in failures[:_SHOWN_FAILURES]:
        complain(failed.error)
    if len(failures) > _SHOWN_FAILURES:
        complain(f"and {len(failures) - _SHOWN_FAILURES} more: {out / 'failures.csv'}")
    if report.interrupted:
        typer.echo("stopped; the same command goes on where it stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if sharded and not report.complete:
        typer.echo("this part is done; the last part to end writes the tables", err=True)
    if report.failed or (failures and not sharded):
        # What a damaged recording gave before it broke off counts, too.
        some = report.done or report.earlier or report.windows
        raise typer.Exit(EXIT_SOME_FAILED if some else EXIT_NOTHING_USABLE)
