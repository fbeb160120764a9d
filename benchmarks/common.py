"""What the benchmarks share: the model, the machine's description, and timing side by side."""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip
from naturelm.model.building import new_model
from naturelm.model.configuration import BeatsConfig, NatureLMProjectorConfig

RATE = 16_000
# As the official checkpoint has it.
LORA = {
    "r": 32,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}


def arguments(description: str | None, repeats: int = 3) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=0, help="of torch; default: as torch chooses")
    parser.add_argument("--merge-lora", action="store_true", help="merge the adapter into the weights first")
    return parser


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def print_machine() -> None:
    """One line about the machine and what else keeps it busy, one about the software."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"machine: {cpu_model()}, {os.cpu_count()} cores, load average {load}")
    print(
        f"software: Python {platform.python_version()}, torch {torch.__version__} on {torch.get_num_threads()} threads,"
        f" transformers {version('transformers')}"
    )


def build_base_naturelm(options: argparse.Namespace) -> NatureLM:
    """SmolLM2-135M behind an audio side of the official size, on the CPU in float32; prints what it is."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model, processor = new_model(
        "smollm2-135m-instruct",
        audio_config=BeatsConfig(exact_mask=True),
        projector_config=NatureLMProjectorConfig(),
        lora=dict(LORA),
    )
    model.eval()
    with torch.no_grad():
        for layer in model.lora_layers():
            layer.lora_B["default"].weight.normal_(std=0.01)  # an untrained adapter is zero
    if options.merge_lora:
        model.merge_lora()
    print_machine()
    adapter = "merged" if options.merge_lora else "rank 32, not merged"
    print(
        "model: SmolLM2-135M-Instruct, BEATs base and the official Q-Former geometry, float32, LoRA "
        f"{adapter}; the audio side has random weights, which take the same time as trained ones"
    )
    return NatureLM(model, processor)


def noise_clip(seed: int = 0, seconds: float = 10.0) -> Clip:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.1
    return Clip(samples.astype(np.float32), f"clip {seed}", 0.0, seconds)


@dataclass(frozen=True)
class Timing:
    """Median seconds of one side: on the clock, and of this process on all cores together."""

    wall: float
    cpu: float

    def ratio(self, faster: "Timing") -> str:
        """How many times longer this took."""
        return f"{self.wall / faster.wall:.1f} by the clock, {self.cpu / faster.cpu:.1f} by CPU time"


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int, prepare: Callable[[], object] = lambda: None
) -> list[Timing]:
    """Time the sides in turns, so that what else the machine does falls on all, and print the medians.

    CPU time says more where other processes take turns with this one, provided torch has one
    thread: waiting threads count as busy. prepare: runs before each side, untimed.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            prepare()
            began, began_cpu = time.perf_counter(), time.process_time()
            run()
            taken[name].append((time.perf_counter() - began, time.process_time() - began_cpu))
    timings = [
        Timing(*(statistics.median(each) for each in zip(*taken[name], strict=True))) for name in sides
    ]
    for name, timing in zip(sides, timings, strict=True):
        each = ", ".join(f"{wall:.2f}" for wall, _ in taken[name])
        print(f"  {name}: {timing.wall:.2f} s (median of {each}), CPU {timing.cpu:.2f} s")
    return timings


def endless(naturelm: NatureLM) -> None:
    """Let no token end an answer, so that every answer is as long as `max_new_tokens` lets it be."""
    naturelm.model.language_model.generation_config.eos_token_id = None
