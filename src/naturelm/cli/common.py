"""What the commands share: exit codes, error lines, progress."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

EXIT_SOME_FAILED = 1
EXIT_NOTHING_USABLE = 2


def complain(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"error: {message}", err=True)


def give_up(message: object) -> NoReturn:
    """Nothing can be done: say why and leave."""
    complain(str(message))
    raise typer.Exit(EXIT_NOTHING_USABLE)


def exit_code(done: int, failed: int) -> int:
    """0 all done, 1 some failed, 2 nothing usable."""
    if failed == 0 and done > 0:
        return 0
    return EXIT_SOME_FAILED if done else EXIT_NOTHING_USABLE


@contextmanager
def progress_on_stderr(description: str, total: int) -> Iterator["tuple[Progress, Any]"]:
    """A progress bar on stderr, silent when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        yield progress, progress.add_task(description, total=total)
