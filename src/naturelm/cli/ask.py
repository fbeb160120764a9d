"""`naturelm ask`: questions about recordings."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from naturelm.cli.common import complain, exit_code, give_up, progress_on_stderr
from naturelm.errors import NatureLMError, QuestionError
from naturelm.model.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    import torch

    from naturelm.answer.results import Answer

_SHOWN_CHOICES = 3


class Precision(StrEnum):
    """Floating-point formats that `--dtype` knows."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def ask(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="REC...", help="Recordings: WAV, FLAC, OGG, Opus, MP3, AIFF, RF64, W64."),
    ],
    question: Annotated[
        list[str], typer.Option("--question", "-q", help="A question; give it several times for several.")
    ],
    choices: Annotated[str | None, typer.Option(help="Closed set of answers, separated by commas.")] = None,
    choices_file: Annotated[
        Path | None, typer.Option(help="File with one answer of the closed set a line.")
    ] = None,
    none_of_these: Annotated[
        bool, typer.Option("--none-of-these", help="Add 'None of these' to the closed set.")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")
    ] = DEFAULT_MODEL,
    llm: Annotated[
        str | None, typer.Option(help="Language model in place of the one that the checkpoint names.")
    ] = None,
    start: Annotated[float, typer.Option(help="Where to start, in seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end, in seconds.")] = None,
    window: Annotated[
        float | None, typer.Option(help="Length of a window in seconds; default: the model's own.")
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="From one window's start to the next, in seconds; default: the window."),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Take each recording as one window.")] = False,
    channel: Annotated[int | None, typer.Option(help="Channel, from 0; default: the mean of all.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 64,
    beams: Annotated[int, typer.Option(help="Beams of a beam search.")] = 1,
    temperature: Annotated[float, typer.Option(help="0: the likeliest answer; above: sampling.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    merging_alpha: Annotated[float, typer.Option(help="Scale of the LoRA adapter, 0 to 1.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows answered together.")] = 8,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the GPU if there is one.")
    ] = None,
    dtype: Annotated[
        Precision | None,
        typer.Option(help="Numbers of the language model; default: float32 on a CPU, bfloat16 on a GPU."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Ask about recordings, window by window.

    Exit code: 0 all answered, 1 some recordings or windows failed, 2 nothing usable.
    """
    try:
        labels = _read_choices(choices, choices_file, none_of_these)
        if whole and (window is not None or hop is not None):
            raise QuestionError("--whole excludes --window and --hop; choose one")
        # Here, not above: these load torch.
        from naturelm.answer.engine import NatureLM
        from naturelm.answer.recordings import Finished, Interview, answer_recordings
        from naturelm.answer.results import Answer, GenerationOptions
        from naturelm.audio import WindowSpec

        options = GenerationOptions(
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            temperature=temperature,
            seed=seed,
            merging_alpha=merging_alpha,
        )
        loaded = NatureLM.from_pretrained(
            model, llm=llm, device=device, dtype=_torch_dtype(dtype), batch_size=batch_size
        )
        length = loaded.model.config.clip_seconds if window is None else window
        interview = Interview(
            questions=tuple(question),
            choices=labels,
            windows=None if whole else WindowSpec(length, hop),
            start=start,
            end=end,
            channel=channel,
            options=options,
        )
        answers: list[Answer] = []
        done = failed = 0
        with progress_on_stderr("Asking", len(recordings)) as (progress, task):
            for item in answer_recordings(loaded, recordings, interview):
                if isinstance(item, Finished):
                    progress.advance(task)
                    continue
                if isinstance(item, Answer):
                    done += 1
                    if not as_json:
                        answers.append(item)
                else:
                    failed += 1
                    complain(item.error)
                if as_json:
                    typer.echo(json.dumps(item.to_dict(), ensure_ascii=False))
    except (NatureLMError, ValueError) as error:
        give_up(error)
    if not as_json:
        _print_table(answers)
    raise typer.Exit(exit_code(done, failed))


def _torch_dtype(precision: Precision | None) -> "torch.dtype | None":
    import torch

    return None if precision is None else getattr(torch, precision.value)


def _read_choices(choices: str | None, choices_file: Path | None, none_of_these: bool) -> tuple[str, ...]:
    """The closed set, or () for free answers. Raises QuestionError."""
    from naturelm.answer.results import check_choices

    if choices is not None and choices_file is not None:
        raise QuestionError("--choices and --choices-file exclude each other; give one")
    if choices is not None:
        return check_choices(tuple(choices.split(",")) if choices.strip() else (), none_of_these)
    if choices_file is not None:
        try:
            lines = choices_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise QuestionError(
                f"{choices_file}: not a readable text file ({error}); give one label a line, UTF-8"
            ) from error
        try:
            return check_choices(tuple(line for line in lines if line.strip()), none_of_these)
        except QuestionError as error:
            raise QuestionError(f"{choices_file}: {error}") from error
    if none_of_these:
        raise QuestionError("--none-of-these needs a closed set; give --choices or --choices-file")
    return ()


def _print_table(answers: "list[Answer]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not answers:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("recording", "left"),
        ("from-to (s)", "right"),
        ("question", "left"),
        ("answer", "left"),
        ("probability", "right"),
        ("time (s)", "right"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for answer in answers:
        cells: list[Any] = [
            answer.recording,
            f"{answer.start:.1f}-{answer.end:.1f}",
            answer.question,
            answer.text + _runners_up(answer),
            f"{answer.probability:.2f}",
            f"{answer.seconds.hear + answer.seconds.prefill + answer.seconds.answer:.2f}",
        ]
        # As Text, since square brackets in a name are no markup.
        table.add_row(*(Text(cell) for cell in cells))
    # Into a file or a pipe, rows are not folded to a screen's width.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _runners_up(answer: "Answer") -> str:
    others = answer.choices[1:_SHOWN_CHOICES]
    return f" (then {', '.join(f'{c.label} {c.probability:.2f}' for c in others)})" if others else ""
