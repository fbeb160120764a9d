"""`naturelm info`: what a recording's header says."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from naturelm.cli.common import complain, exit_code
from naturelm.errors import AudioError


def info(
    recordings: Annotated[list[Path], typer.Argument(metavar="REC...", help="Recordings.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Describe recordings: format, sample rate, channels, length.

    Exit code: 0 all read, 1 some failed, 2 nothing usable.
    """
    from naturelm.audio import audio_info

    done = failed = 0
    for recording in recordings:
        try:
            found = audio_info(recording)
        except AudioError as error:
            failed += 1
            complain(str(error))
            if as_json:
                typer.echo(json.dumps({"recording": str(recording), "error": str(error)}, ensure_ascii=False))
            continue
        done += 1
        if as_json:
            fields = {("recording" if k == "name" else k): v for k, v in asdict(found).items()}
            typer.echo(json.dumps({**fields, "duration": found.duration}, ensure_ascii=False))
        else:
            typer.echo(
                f"{found.name}: {found.format} {found.subtype}, {found.sample_rate} Hz, "
                f"{found.channels} channel{'s' if found.channels != 1 else ''}, {found.duration:.3f} s"
            )
    raise typer.Exit(exit_code(done, failed))
