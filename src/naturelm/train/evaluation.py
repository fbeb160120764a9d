"""An evaluation during training: loss by task, sample answers, and which species are taken for which."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import nn

from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.data import AnswerCollator, Example, TrainingRows
from naturelm.train.metrics import Tally, answer_results, overall_loss

NAMING_TASK = "species-common"
OTHER = "(other)"
_BATCH = 16
_MOST_LABELS = 20
_MOST_NAMED = 64
_MOST_TOKENS = 40


@dataclass(frozen=True)
class EvaluationRows:
    """Validation pairs that every evaluation of a run takes, so that its numbers compare."""

    examples: tuple[Example, ...]
    shown: int
    """Of how many the answer is written out."""
    named: tuple[Example, ...] = ()
    """Pairs about the common name, for the table of confusions."""

    @classmethod
    def draw(
        cls,
        rows: TrainingRows,
        count: int,
        shown: int,
        seed: int,
        tasks: Sequence[str],
        without_sources: Collection[str] = (),
    ) -> "EvaluationRows":
        """Pairs of the given tasks at random, tasks taking turns; rows that cannot be read are left out."""
        by_task: dict[str, list[int]] = {task: [] for task in tasks}
        start = 0
        for corpus in rows.corpora:
            table = corpus.table(["task", "source_dataset"])
            for number, (task, source) in enumerate(zip(*table.to_pydict().values(), strict=True)):
                if task in by_task and not set(without_sources).intersection(source.split("+")):
                    by_task[task].append(start + number)
            start += len(corpus)
        rng = np.random.default_rng([seed, 1])
        queues = [list(rng.permutation(numbers)) for numbers in by_task.values() if numbers]
        chosen: list[int] = []
        while len(chosen) < count and any(queues):
            chosen += [int(queue.pop()) for queue in queues if queue]
        naming = rng.permutation(by_task.get(NAMING_TASK, []))[:_MOST_NAMED].tolist() if count else []
        return cls(_readable(rows, chosen[:count]), shown, _readable(rows, naming))


def _readable(rows: TrainingRows, numbers: Sequence[int]) -> tuple[Example, ...]:
    examples = (rows[number] for number in numbers)
    return tuple(each for each in examples if isinstance(each, Example))


class Evaluator:
    """Measures a joint model on the same pairs again and again."""

    def __init__(
        self,
        model: NatureLMForConditionalGeneration,
        processor: NatureLMProcessor,
        rows: EvaluationRows,
        *,
        rank: int = 0,
        processes: int = 1,
        precision: Callable[[], Any],
    ) -> None:
        """precision: gives the context that forward passes run in."""
        self.model = model
        self.processor = processor
        self.rows = rows
        self.rank = rank
        self.processes = processes
        self.precision = precision
        tasks = tuple(sorted({example.task for example in rows.examples}))
        sources = tuple(sorted({example.source for example in rows.examples}))
        self._tally = Tally(tasks, sources)

    def measure(self, forward: nn.Module) -> dict[str, Any]:
        """Fields of an evaluation line. forward: the model, or what wraps it for many processes.

        Every process has to call this.
        """
        was_training = forward.training
        forward.eval()
        try:
            with torch.no_grad(), self.precision():
                self._losses(forward)
                tasks = self._tally.take(self.model.device)["tasks"]
                samples = self._written(self.rows.examples[: self.rows.shown])
                pairs = [(each["answer"], each["written"]) for each in self._written(self.rows.named)]
        finally:
            forward.train(was_training)
        return {
            "loss": overall_loss(tasks),
            "tasks": tasks,
            "samples": samples,
            "confusion": confusion(pairs) if pairs else None,
        }

    def _losses(self, forward: nn.Module) -> None:
        collate = AnswerCollator(self.processor)
        ordered = sorted(self.rows.examples, key=lambda each: len(each.samples))
        batches = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
        rounds = -(-len(batches) // self.processes)
        for turn in range(rounds):
            # Processes that share the model's parts have to take the same number of passes.
            number = turn * self.processes + self.rank
            batch = batches[min(number, len(batches) - 1)]
            inputs = collate(list(batch))
            inputs.pop("examples")
            inputs = send_to_device(inputs, self.model.device)
            outputs = forward(**inputs)
            if number < len(batches):
                results = answer_results(inputs["labels"], outputs.token_losses, outputs.logits)
                self._tally.add([each.task for each in batch], [each.source for each in batch], results)

    def _written(self, examples: Sequence[Example]) -> list[dict[str, str]]:
        written: list[str] = []
        for start in range(0, len(examples), _BATCH):
            batch = examples[start : start + _BATCH]
            inputs = self.processor([each.question for each in batch], [each.samples for each in batch])
            inputs = inputs.to(self.model.device)
            ids = self.model.generate(
                **inputs,
                max_new_tokens=_MOST_TOKENS,
                do_sample=False,
                eos_token_id=self.processor.end_ids()[0],
                pad_token_id=self.processor.pad_token_id,
            )
            written += [self._text(row) for row in ids[:, inputs["input_ids"].shape[1] :].tolist()]
        return [
            {
                "id": each.id,
                "task": each.task,
                "question": each.question,
                "answer": each.answer,
                "written": text,
            }
            for each, text in zip(examples, written, strict=True)
        ]

    def _text(self, ids: list[int]) -> str:
        """The answer up to its end; a row that ended early is followed by padding."""
        end = self.processor.end_ids()[0]
        return self.processor.decode_answer(ids[: ids.index(end)] if end in ids else ids)


def confusion(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How often which name was written for which.

    pairs: (right, written). With more than 20 right names, names count by their last word, which in English
    names the kind (song *sparrow*). What is not among the 20 most frequent is `(other)`.
    """
    if len({right for right, _ in pairs}) > _MOST_LABELS:
        pairs = [(_kind(right), _kind(written)) for right, written in pairs]
    labels = [label for label, _ in Counter(right for right, _ in pairs).most_common(_MOST_LABELS)]
    labels = [*sorted(labels), OTHER]
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    places = {label: place for place, label in enumerate(labels)}
    for right, written in pairs:
        counts[places.get(right, -1), places.get(written, -1)] += 1
    return {"labels": labels, "counts": counts.tolist()}


def _kind(name: str) -> str:
    return name.rsplit(maxsplit=1)[-1].lower() if name.split() else name
