"""Ear, projector, hints and adapter: which parameters are trained, how fast, and how that changes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.train.options import OptimizerOptions, WarmUpOptions

PARTS = ("ear", "projector", "hints", "lora")
READERS = "readers"
"""What the warm-up alone trains."""


@dataclass(frozen=True)
class PartRates:
    """Peak learning rate of each part, and the course from start to end.

    peaks: by part; a part that is not there is not trained. initial, final: as shares of the peak.
    """

    peaks: dict[str, float]
    initial: float
    final: float
    rising_steps: int
    weight_decay: float
    beta1: float
    beta2: float

    @classmethod
    def of_answers(cls, options: OptimizerOptions) -> "PartRates":
        """As the options of the main phase say."""
        scales = {
            "ear": options.ear_scale,
            "projector": options.projector_scale,
            "hints": options.hints_scale,
            "lora": options.lora_scale,
        }
        return cls(
            peaks={part: options.learning_rate * scale for part, scale in scales.items() if scale > 0},
            initial=options.initial_learning_rate / options.learning_rate,
            final=options.final_learning_rate / options.learning_rate,
            rising_steps=options.warm_up_steps,
            weight_decay=options.weight_decay,
            beta1=options.beta1,
            beta2=options.beta2,
        )

    @classmethod
    def of_warm_up(cls, options: WarmUpOptions, optimizer: OptimizerOptions) -> "PartRates":
        """As the options of the warm-up say."""
        return cls(
            peaks=dict.fromkeys(("ear", "projector", READERS), options.learning_rate),
            initial=0.0,
            final=0.0,
            rising_steps=options.learning_rate_steps,
            weight_decay=optimizer.weight_decay,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
        )

    def factor(self, step: int, steps: int) -> float:
        """Learning rate of the step after `step` of `steps`, as a share of the peak: linear rise, cosine fall."""
        if step < self.rising_steps:
            # The first step already learns: at a rate of 0 it would be wasted.
            return self.initial + (1 - self.initial) * (step + 1) / (self.rising_steps + 1)
        past = min(1.0, (step - self.rising_steps) / max(1, steps - self.rising_steps))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * past)) / 2


def part_of(name: str) -> str | None:
    """The part that a parameter of a joint model or `WordHearer` belongs to; None for the frozen language model."""
    name = name.removeprefix("module.")
    head = name.split(".")[0]
    if head in ("ear", "projector"):
        return head
    if head in ("hints", "word_hints"):
        return READERS if ".reader." in name else "hints"
    if head == "language_model":
        return "lora" if ".lora_" in name else None
    return READERS


def train_only(model: NatureLMForConditionalGeneration, rates: PartRates) -> None:
    """Let gradients flow into the parts that have a learning rate, and nowhere else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = part_of(name) in rates.peaks


def parameter_groups(model: nn.Module, rates: PartRates) -> list[dict[str, Any]]:
    """Groups for the optimiser: of each part, what decays and what does not (norms, biases, gates)."""
    return list(_groups(model, rates))


def _groups(model: nn.Module, rates: PartRates) -> Iterator[dict[str, Any]]:
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for part, peak in rates.peaks.items():
        own = [parameter for name, parameter in trained if part_of(name) == part]
        for decays in (True, False):
            members = [parameter for parameter in own if (parameter.squeeze().dim() > 1) == decays]
            if members:
                decay = rates.weight_decay if decays else 0.0
                yield {"params": members, "lr": peak, "weight_decay": decay, "part": part}


def part_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rate of each part, as it is now."""
    return {group["part"]: float(group["lr"]) for group in optimizer.param_groups}
