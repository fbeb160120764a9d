"""Sums by task and source between two log lines, alike on one process and on many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowResults:
    """What a batch gave, row by row: all (rows,)."""

    losses: Tensor
    """Sum of the losses of a row's items."""
    hits: Tensor
    """Number of its items that were right."""
    items: Tensor
    """Answer tokens of the row; 1 in the warm-up."""


def answer_results(labels: Tensor, token_losses: Tensor, logits: Tensor) -> RowResults:
    """Of each row of a batch of the joint model.

    labels: (batch, tokens), -100 where nothing is asked. token_losses: (labelled tokens,), and logits:
    (labelled tokens, vocabulary), both in row order.
    """
    asked = labels[:, 1:] != -100
    rows = asked.nonzero()[:, 0]
    items = asked.sum(1)
    right = (logits.argmax(-1) == labels[:, 1:][asked]).float()
    zeros = torch.zeros(len(labels), device=token_losses.device)
    return RowResults(zeros.index_add(0, rows, token_losses), zeros.index_add(0, rows, right), items)


@dataclass
class Tally:
    """Sums since they were last taken. tasks and sources are what can come, in the same order everywhere."""

    tasks: tuple[str, ...]
    sources: tuple[str, ...]
    _task_sums: Tensor = field(init=False)
    """(tasks, 5): losses, hits, items, rows all of whose items were right, rows."""
    _source_rows: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._task_sums = torch.zeros(len(self.tasks), 5, dtype=torch.float64)
        self._source_rows = torch.zeros(len(self.sources), dtype=torch.float64)

    def add(self, tasks: Sequence[str], sources: Sequence[str], results: RowResults) -> None:
        """Count a batch in."""
        numbers = torch.tensor([self.tasks.index(task) for task in tasks])
        losses, hits, items = (each.cpu().double() for each in (results.losses, results.hits, results.items))
        columns = torch.stack([losses, hits, items, (hits >= items).double(), torch.ones_like(items)], dim=1)
        self._task_sums.index_add_(0, numbers, columns)
        places = torch.tensor([self.sources.index(source) for source in sources])
        self._source_rows.index_add_(0, places, torch.ones(len(places), dtype=torch.float64))

    def take(self, device: torch.device | None = None) -> dict[str, Any]:
        """Sums over all processes as fields of a log line, and begin anew. Every process has to call it."""
        task_sums, source_rows = (
            _over_processes(self._task_sums, device),
            _over_processes(self._source_rows, device),
        )
        self.clear()
        return {
            "tasks": {
                task: {
                    "loss": losses / max(items, 1),
                    "accuracy": hits / max(items, 1),
                    "exact": exact / rows,
                    "pairs": int(rows),
                    "items": int(items),
                }
                for task, (losses, hits, items, exact, rows) in zip(
                    self.tasks, task_sums.tolist(), strict=True
                )
                if rows
            },
            "sources": {
                source: int(rows)
                for source, rows in zip(self.sources, source_rows.tolist(), strict=True)
                if rows
            },
        }


def overall_loss(tasks: dict[str, dict[str, float]]) -> float:
    """Mean loss of all items of `Tally.take`'s tasks; NaN if there are none."""
    items = sum(task["items"] for task in tasks.values())
    return sum(task["loss"] * task["items"] for task in tasks.values()) / items if items else float("nan")


def _over_processes(sums: Tensor, device: torch.device | None) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    # NCCL adds up on its own device only; float64 keeps counts whole.
    moved = sums.to(device or torch.device("cpu"))
    torch.distributed.all_reduce(moved)
    return moved.cpu()
