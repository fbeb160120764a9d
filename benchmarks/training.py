"""Our training step against a straightforward one: examples per second and peak memory.

    python benchmarks/training.py [--corpus CORPUS]     `mini`, on the CPU
    python benchmarks/training.py --model official      the official geometry with random weights, on a GPU

Ours makes logits for the tokens of the answers alone, and the pairs of a batch are of like length, as the
mixture draws them. The straightforward step takes the same pairs in random batches and has transformers
compute the loss: logits over the whole vocabulary at every position, labels shifted, -100 where nothing is
asked. Both pad to the longest of the batch; both clip the gradient and take an AdamW step. Reading and
decoding clips is not in the time: loader processes do it (corpus_loader.py).

On the CPU a third side is our step in a process that gives freed memory back to the system, as glibc does
unless `keep_freed_memory` tells it otherwise; the straightforward step gives it back too.

Each side lives in a fresh process, and they step in turns, so that what else the machine does falls on all.
All sides have their models in memory at once. Peak memory is the most that was resident (CPU) or that torch had
allocated (GPU) from the first step on; on a CPU without Linux, loading is included.

`--model official` also gives the share of the card's peak. Useful operations of a step are 6 N T for N weights
that T positions pass through, less the third that is the gradient of frozen weights, which nobody computes:

    4 N_frozen T + 4 N_head A + 6 N_lora T + 6 N_ear P + 6 N_projector W

T: prompt and answer tokens, without padding; A: answer tokens, the only ones that need logits; P: patches of the
ear; W: audio embeddings. N_frozen is without head and embedding table. What attention multiplies position by
position is left out, and what gradient checkpointing computes twice is not counted twice.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common import cpu_model, print_machine
from training_sides import (
    CONFIGURATIONS,
    GIVEN_BACK,
    OURS,
    STRAIGHTFORWARD,
    Settings,
    Side,
    Stepped,
    serve,
)

# Dense bfloat16 operations per second, by what the card's name holds. Others are asked for.
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12}
WARM_UP_STEPS = 2
SAME_LOSS = {"cpu": 1e-4, "cuda": 1e-2}
"""Relative difference of two losses that float32, or bfloat16, rounding explains."""


@dataclass(frozen=True)
class Total:
    """A side's timed steps together."""

    side: Side
    loaded_memory: int
    """Bytes before the first step."""
    peak_memory: int
    first_loss: float
    examples_per_second: float
    cpu_seconds: float
    tokens_per_second: float
    padding: float
    """Share of the language model's positions."""
    operations_per_second: float

    @classmethod
    def of(cls, side: Side, loaded_memory: int, first_loss: float, steps: Sequence[Stepped]) -> "Total":
        seconds = sum(step.seconds for step in steps)
        tokens = sum(step.tokens for step in steps)
        return cls(
            side=side,
            loaded_memory=loaded_memory,
            peak_memory=steps[-1].peak_memory,
            first_loss=first_loss,
            examples_per_second=sum(step.examples for step in steps) / seconds,
            cpu_seconds=sum(step.cpu_seconds for step in steps),
            tokens_per_second=tokens / seconds,
            padding=1 - tokens / sum(step.positions for step in steps),
            operations_per_second=sum(step.operations for step in steps) / seconds,
        )


def measure(sides: Sequence[Side], settings: Settings) -> list[Total]:
    """Let the sides step in turns. Exits with a message if one of them cannot."""
    context = multiprocessing.get_context("spawn")
    ends = {}
    for side in sides:
        ends[side], theirs = context.Pipe()
        context.Process(target=serve, args=(side, settings, theirs), daemon=True).start()
        theirs.close()  # so that the end of the process is the end of the pipe
    loaded = {side: answered(side, end) for side, end in ends.items()}
    first: dict[Side, float] = {}
    timed: dict[Side, list[Stepped]] = {side: [] for side in sides}
    for number in itertools.chain([0] * WARM_UP_STEPS, range(1, 1 + settings.steps)):
        for side, end in ends.items():
            end.send(number)
            stepped = answered(side, end)
            first.setdefault(side, stepped.loss)
            if number:
                timed[side].append(stepped)
        print(f"step {number} of {settings.steps}" if number else "warming up", file=sys.stderr)
    for end in ends.values():
        end.send(None)
    return [Total.of(side, loaded[side], first[side], timed[side]) for side in sides]


def answered(side: Side, end: Connection) -> Any:
    try:
        said = end.recv()
    except EOFError:
        sys.exit(f"{side.name}: its process came to an end (killed for want of memory?)")
    if isinstance(said, str):
        sys.exit(f"{side.name}: {said}")
    return said


def ratios(one: Total, other: Total) -> dict[str, float]:
    """Of the first to the second. CPU time says more than the clock where other processes take turns."""
    return {
        "examples_per_second": one.examples_per_second / other.examples_per_second,
        "examples_per_cpu_second": other.cpu_seconds / one.cpu_seconds,
        "peak_memory": one.peak_memory / other.peak_memory,
    }


def peak_of_card(given: float | None) -> float:
    """Operations per second. Exits if there is no GPU, or nobody says what it can do."""
    if not torch.cuda.is_available():
        print("--model official needs a GPU, and torch finds none here; --model mini runs on the CPU")
        sys.exit(2)
    name = torch.cuda.get_device_name()
    known = [peak for part, peak in PEAKS.items() if part in name]
    if given is None and not known:
        print(
            f"{name}: its peak is not known here; give its dense bfloat16 operations per second with --peak"
        )
        sys.exit(2)
    return given if given is not None else known[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=list(CONFIGURATIONS), default="mini")
    parser.add_argument("--corpus", type=Path, help="folder of a corpus; default generated clips")
    parser.add_argument("--batch", type=int, default=8, help="pairs of a batch")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each side")
    parser.add_argument(
        "--threads", type=int, default=0, help="of torch in each process; default: as torch chooses"
    )
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice on all sides")
    parser.add_argument(
        "--peak", type=float, help="dense bfloat16 operations per second of the card, such as 989e12"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )
    options = parser.parse_args()
    if min(options.batch, options.steps) < 1:
        parser.error("--batch and --steps are at least 1")
    settings = Settings(
        options.model,
        options.corpus,
        options.batch,
        options.steps,
        options.threads,
        options.checkpointing,
        options.seed,
    )
    peak = peak_of_card(options.peak) if settings.device == "cuda" else None
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.json:
        print_machine()
    on_cpu = settings.device == "cpu"
    totals = measure([OURS, STRAIGHTFORWARD, *([GIVEN_BACK] if on_cpu else [])], settings)
    ours, straightforward, *rest = totals
    compared = {"ours to straightforward": ratios(ours, straightforward)}
    for given_back in rest:
        compared["freed memory kept to given back"] = ratios(ours, given_back)
        compared["ours to straightforward, both giving back"] = ratios(given_back, straightforward)
    difference = abs(ours.first_loss - straightforward.first_loss) / straightforward.first_loss
    if options.json:
        print(json.dumps(as_json(settings, totals, compared, difference, peak), indent=1))
    else:
        show(settings, totals, compared, difference, peak)
    sys.exit(not difference < SAME_LOSS[settings.device])


def as_json(
    settings: Settings,
    totals: list[Total],
    compared: dict[str, dict[str, float]],
    difference: float,
    peak: float | None,
) -> dict[str, Any]:
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "device": card(settings),
        },
        "settings": {**dataclasses.asdict(settings), "corpus": settings.corpus and str(settings.corpus)},
        "sides": {total.side.name: dataclasses.asdict(total) for total in totals},
        "ratios": compared,
        "relative_difference_of_first_loss": difference,
        "share_of_peak": peak and {total.side.name: total.operations_per_second / peak for total in totals},
    }


def card(settings: Settings) -> str:
    return "CPU" if settings.device == "cpu" else torch.cuda.get_device_name()


def show(
    settings: Settings,
    totals: list[Total],
    compared: dict[str, dict[str, float]],
    difference: float,
    peak: float | None,
) -> None:
    data = "generated clips" if settings.corpus is None else str(settings.corpus)
    print(
        f"{settings.model} on {card(settings)}, {data}: {settings.steps} steps of {settings.batch_size}, "
        f"after {WARM_UP_STEPS} untimed"
    )
    print(
        f"{'':30}{'examples/s':>12}{'tokens/s':>10}{'padding':>9}{'CPU s':>9}{'peak GB':>9}{'loaded GB':>11}"
    )
    for total in totals:
        print(
            f"{total.side.name:30}{total.examples_per_second:12.2f}{total.tokens_per_second:10.0f}"
            f"{total.padding:9.0%}{total.cpu_seconds:9.1f}{total.peak_memory / 1e9:9.2f}{total.loaded_memory / 1e9:11.2f}"
        )
    for name, ratio in compared.items():
        print(
            f"{name}: {ratio['examples_per_second']:.2f} times the examples per second by the clock, "
            f"{ratio['examples_per_cpu_second']:.2f} by CPU time; {ratio['peak_memory']:.2f} of the peak memory"
        )
    if peak is not None:
        for total in totals:
            done = total.operations_per_second
            print(f"{total.side.name}: {done / 1e12:.0f} TFLOP/s, {done / peak:.1%} of {peak / 1e12:.0f}")
    ours, straightforward, *_ = totals
    print(
        f"first loss on one batch: {ours.first_loss:.6f} and {straightforward.first_loss:.6f}, "
        f"relative difference {difference:.1e}"
    )


if __name__ == "__main__":
    main()
