"""`naturelm corpus`: build a corpus, prove that it is sound, and look at what is in it."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from naturelm.cli.common import EXIT_SOME_FAILED, complain, give_up, progress_on_stderr
from naturelm.cli.extras import need_packages
from naturelm.errors import NatureLMError

if TYPE_CHECKING:
    from naturelm.corpus.check import CheckReport
    from naturelm.corpus.show import Found
    from naturelm.corpus.stats import AnswerCounts, Breakdown, CorpusStatistics

EXIT_INTERRUPTED = 130
STARTER = "starter"
ALL_TASKS = "all"
_SHOWN_TAXA = 30
_PACKAGES = ("audiomentations", "matplotlib", "mido", "pyarrow", "pydantic", "scipy", "yaml")
_SHOWN_ANSWERS = 5

app = typer.Typer(
    help="Instruction-audio corpora: build, check, count, look and listen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a corpus.")]
SplitOption = Annotated[str | None, typer.Option("--split", help="train, validation or test; default: all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each CPU.")]


@app.command()
def build(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="YAML file, or `starter` for the corpus that needs no archive."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to build in.")],
    workers: WorkersOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed, in place of the file's own.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what an earlier build left there.")
    ] = False,
) -> None:
    """Build a corpus, or go on with a build that was stopped.

    Exit code: 0 all fine, 1 built, but some recordings could not be used, 2 nothing built, 130 stopped.
    """
    try:
        need_packages("corpus", _PACKAGES)
        from dataclasses import replace

        from naturelm.corpus.build import build_corpus
        from naturelm.corpus.options import load_options

        with _stages("fetching packages" if config == STARTER else "reading the sources") as progress:
            if config == STARTER:
                from naturelm.corpus.starter import starter_options

                options = starter_options() if seed is None else starter_options(seed=seed)
            else:
                options = load_options(Path(config))
                options = options if seed is None else replace(options, seed=seed)
            report = build_corpus(
                options, out, workers=workers or os.cpu_count() or 1, fresh=fresh, progress=progress
            )
    except NatureLMError as error:
        give_up(error)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on where it stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _print_report(report.pairs, f"{report.folder}, {report.seconds:.0f} s")
    if report.duplicates:
        typer.echo(
            f"{report.duplicates} pairs of recordings share sound, and were kept in one split: see duplicates.csv"
        )
    if report.unknown_taxa:
        typer.echo(f"{report.unknown_taxa} names that no taxonomy knows: see unknown_taxa.csv")
    if not any(number for tasks in report.pairs.values() for number in tasks.values()):
        give_up(f"{report.folder}: not one pair could be made: see failures.csv")
    if report.failures:
        complain(f"{report.failures} recordings could not be used: see failures.csv")
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def check(
    corpus: Folder,
    taxonomy: Annotated[
        Path | None,
        typer.Option(help="Taxonomy with more names; default: the corpus's own and the built-in one."),
    ] = None,
    as_json: JsonOption = False,
    no_near_duplicates: Annotated[
        bool, typer.Option("--no-near-duplicates", help="Do not compare the sound of test and train.")
    ] = False,
    workers: WorkersOption = None,
) -> None:
    """Prove that a corpus is sound and that its splits do not leak.

    Exit code: 0 clean, 1 something was found, 2 cannot be checked.
    """
    try:
        need_packages("corpus", _PACKAGES)
        from naturelm.corpus.check import check_corpus
        from naturelm.corpus.taxonomy import Taxonomy

        names = None if taxonomy is None else Taxonomy.open(taxonomy)
        with progress_on_stderr("Checking", 0) as (progress, bar):
            report = check_corpus(
                corpus,
                taxonomy=names,
                near_duplicates=not no_near_duplicates,
                workers=workers or os.cpu_count() or 1,
                progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        _print_check(report)
    raise typer.Exit(0 if report.ok else EXIT_SOME_FAILED)


@app.command()
def stats(
    corpus: Folder,
    split: SplitOption = None,
    as_json: JsonOption = False,
    csv: Annotated[Path | None, typer.Option(help="Folder to write the tables to, in full, as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG, SVG or PDF to draw pairs and hours on.")] = None,
) -> None:
    """Count pairs, clips and hours by source, task, taxon and licence, and how answers spread."""
    try:
        need_packages("corpus", _PACKAGES)
        from naturelm.corpus.stats import corpus_statistics, write_csv_tables

        found = corpus_statistics(corpus, split=split)
        if csv is not None:
            for path in write_csv_tables(found, csv):
                typer.echo(f"wrote {path}", err=True)
        if plot is not None:
            from naturelm.corpus.stats_plot import plot_statistics

            plot_statistics(found, plot)
            typer.echo(f"wrote {plot}", err=True)
    except NatureLMError as error:
        give_up(error)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        _print_statistics(found)


@app.command()
def sample(
    corpus: Folder,
    count: Annotated[int, typer.Option("-n", min=1, help="How many pairs.")] = 5,
    task: Annotated[str | None, typer.Option(help="Only pairs of this task.")] = None,
    split: SplitOption = None,
    seed: Annotated[int, typer.Option(help="Another seed draws others.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write the sounds to.")] = None,
) -> None:
    """Print pairs at random.

    Exit code: 0 all fine, 1 some sounds could not be written, 2 nothing to show.
    """
    failed = False
    try:
        need_packages("corpus", _PACKAGES)
        from naturelm.corpus.show import random_pairs

        for number, found in enumerate(random_pairs(corpus, count, task=task, split=split, seed=seed)):
            if number and not as_json:
                typer.echo()
            _print_pair(found, as_json)
            failed |= out is not None and not _write(found, out)
    except NatureLMError as error:
        give_up(error)
    raise typer.Exit(EXIT_SOME_FAILED if failed else 0)


@app.command()
def show(
    corpus: Folder,
    pair: Annotated[
        str | None,
        typer.Argument(metavar="[PAIR]", help="Id of a pair, or row number, from 0, in its split."),
    ] = None,
    split: SplitOption = None,
    sheet: Annotated[
        str | None, typer.Option(help="Draw random pairs of this task, or of `all` tasks, one sheet each.")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Pairs on a sheet.")] = 10,
    seed: Annotated[int, typer.Option(help="Another seed draws others.")] = 0,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for sounds (FLAC) and spectrograms (PNG).")
    ] = None,
) -> None:
    """Show one pair in full, or draw sheets of random pairs to check a task by.

    Exit code: 0 all fine, 1 some pairs could not be drawn, 2 nothing to show.
    """
    if (pair is None) == (sheet is None):
        give_up("give either a pair (an id or a row number) or --sheet TASK")
    try:
        need_packages("corpus", _PACKAGES)
        if sheet is not None:
            if out is None:
                give_up("--sheet needs a folder for its pictures; give it with -o")
            raise typer.Exit(_show_sheets(corpus, sheet, count, split, seed, out, as_json))
        from naturelm.corpus.show import find_pair, write_picture

        assert pair is not None
        found = find_pair(corpus, pair, split)
        _print_pair(found, as_json)
        if out is not None:
            if not _write(found, out):
                raise typer.Exit(EXIT_SOME_FAILED)
            typer.echo(f"wrote {write_picture(found, out)}", err=True)
    except NatureLMError as error:
        give_up(error)


@app.command()
def sources(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the archives that a corpus can be built from."""
    from importlib import import_module

    from naturelm.corpus.sources import source_names

    names = source_names()
    width = max(map(len, names), default=0)
    for name in names:
        module = import_module(f"naturelm.corpus.sources.{name.replace('-', '_')}")
        about = (module.__doc__ or "").strip().split("\n")[0]
        row = {"name": name, "about": about}
        typer.echo(json.dumps(row, ensure_ascii=False) if as_json else f"{name:<{width}}  {about}")


class _Progress(Protocol):
    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


@contextmanager
def _stages(first: str) -> Iterator[_Progress]:
    """A bar on stderr for one stage after another."""
    with progress_on_stderr(first, 0) as (progress, bar):
        current = [(first, bar)]

        def advance(stage: str, done: int, total: int | None) -> None:
            name, task = current[0]
            if name != stage:
                progress.remove_task(task)
                current[0] = (stage, progress.add_task(stage, total=total))
            progress.update(current[0][1], completed=done, total=total)

        yield advance


def _write(found: "Found", out: Path) -> bool:
    from naturelm.corpus.show import write_sound
    from naturelm.errors import AudioError

    try:
        path = write_sound(found.pair, out)
    except AudioError as error:
        complain(f"{found.pair.id}: {error}")
        return False
    typer.echo(f"wrote {path}", err=True)
    return True


def _show_sheets(
    corpus: Path, sheet: str, count: int, split: str | None, seed: int, out: Path, as_json: bool
) -> int:
    from naturelm.corpus.show import task_names, write_sheet

    tasks = task_names(corpus, split) if sheet == ALL_TASKS else (sheet,)
    failed = False
    with progress_on_stderr("Drawing", len(tasks)) as (progress, bar):
        for task in tasks:
            made = write_sheet(corpus, task, out, count=count, split=split, seed=seed)
            for failure in made.failures:
                complain(failure)
            failed |= bool(made.failures)
            row = {"task": task, "image": str(made.image), "sounds": [str(path) for path in made.sounds]}
            typer.echo(json.dumps(row, ensure_ascii=False) if as_json else f"{made.image}")
            progress.advance(bar)
    return EXIT_SOME_FAILED if failed else 0


def _print_pair(found: "Found", as_json: bool) -> None:
    from naturelm.corpus.show import pair_to_dict, pair_to_text

    typer.echo(json.dumps(pair_to_dict(found), ensure_ascii=False) if as_json else pair_to_text(found))


def _print_report(pairs: dict[str, dict[str, int]], where: str) -> None:
    total = sum(number for tasks in pairs.values() for number in tasks.values())
    rows = [(split, task, f"{number:,}") for split, tasks in pairs.items() for task, number in tasks.items()]
    _print_table("", ("split", "task", "pairs"), rows, right=1)
    typer.echo(f"{total:,} pairs in {where}")


def _print_check(report: "CheckReport") -> None:
    total = sum(report.rows.values())
    typer.echo(
        f"{total:,} rows: " + ", ".join(f"{split} {number:,}" for split, number in report.rows.items())
    )
    width = max(len(run.name) for run in report.checks)
    for run in report.checks:
        result = f"{run.found:,} found" if run.found else "fine"
        typer.echo(f"{run.name:<{width}}  {run.looked_at:>9,} looked at  {result}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    for finding in report.findings:
        typer.echo(f"{finding.check}: {finding.where}: {finding.what}; {finding.cure}")
    kept, found = len(report.findings), sum(run.found for run in report.checks)
    if found > kept:
        typer.echo(f"and {found - kept:,} more")


def _print_statistics(found: "CorpusStatistics") -> None:
    from naturelm.corpus.show import printable
    from naturelm.corpus.stats import hours_text

    total = found.total
    typer.echo(
        f"{printable(found.name)}: {total.pairs:,} pairs, {total.clips:,} clips, {hours_text(total.hours)} hours, "
        f"{total.recordings:,} recordings\n"
    )
    for table in found.breakdowns:
        _print_breakdown(table, _SHOWN_TAXA if table is found.taxa else len(table.groups))
    _print_answers(found.answers)


def _print_breakdown(table: "Breakdown", most: int) -> None:
    from naturelm.corpus.stats import hours_text

    rows = [
        (*group.key, f"{group.pairs:,}", f"{group.clips:,}", hours_text(group.hours), f"{group.recordings:,}")
        for group in table.groups[:most]
    ]
    headings = (*(name.replace("_", " ") for name in table.headings), "pairs", "clips", "hours", "recordings")
    _print_table(
        f"by {table.headings[-1].replace('_', ' ')}" if table.name != "taxa" else "by taxon",
        headings,
        rows,
        right=4,
    )
    if len(table.groups) > most:
        typer.echo(f"and {len(table.groups) - most:,} more: see --csv or --json\n")


def _print_answers(answers: "Sequence[AnswerCounts]") -> None:
    rows = []
    for of in answers:
        frequent = "; ".join(
            f"{answer if len(answer) <= 40 else answer[:39] + '…'} {100 * pairs / of.pairs:.0f} %"
            for answer, pairs in of.frequent[:_SHOWN_ANSWERS]
        )
        rows.append((of.task, f"{of.different:,}", f"{100 * of.none_share:.0f} %", frequent))
    _print_table("answers", ("task", "different", "None", "most frequent"), rows, middle=(1, 2))
    places = [
        (
            of.task,
            f"{of.option_lists:,}",
            "  ".join(
                f"{right} ({expected:.0f})"
                for right, expected in zip(of.right_places, of.expected_places, strict=True)
            ),
            f"{of.unplaced:,}",
        )
        for of in answers
        if of.option_lists
    ]
    headings = ("task", "lists", "right option stands 1st, 2nd, ... (expected)", "not listed")
    _print_table("option lists", headings, places, middle=(1, 3))


def _print_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: int = 0,
    middle: tuple[int, ...] = (),
) -> None:
    """right: so many of the last columns are numbers; middle: so are these."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from naturelm.corpus.show import printable

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    for place, heading in enumerate(headings):
        numbers = place >= len(headings) - right or place in middle
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # As Text, since square brackets in a name are no markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Into a file or a pipe, rows are not folded to a screen's width.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print()
