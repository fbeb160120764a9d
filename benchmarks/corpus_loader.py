"""Pairs per second that the loader brings, at random, and examples per second that a training step takes.

    python benchmarks/corpus_loader.py CORPUS

A batch is what the trainer of a small model needs: pairs drawn at random over all shards, clips decoded
and padded to the longest of the batch. The step is forward and backward of the shipped model with its
adapter, on batches of the same corpus.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import print_machine
from torch.utils.data import DataLoader, Dataset

from naturelm.corpus.storage import Corpus, decode
from naturelm.model.loading import load_model, load_processor

Example = tuple[str, np.ndarray, str]


class Clips(Dataset[Example]):
    """Question, decoded clip and answer of each pair."""

    def __init__(self, folder: Path) -> None:
        self._corpus = Corpus(folder, "train")

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, row: int) -> Example:
        pair = self._corpus[row]
        return pair.instruction_text, decode(pair), pair.output


def padded(examples: list[Example]) -> tuple[list[str], torch.Tensor, list[int], list[str]]:
    """Questions, clips (batch, samples), their lengths, answers."""
    lengths = [len(clip) for _, clip, _ in examples]
    clips = torch.zeros(len(examples), max(lengths))
    for row, (_, clip, _) in enumerate(examples):
        clips[row, : lengths[row]] = torch.from_numpy(clip)
    return [question for question, _, _ in examples], clips, lengths, [answer for _, _, answer in examples]


def loader(data: Clips, batch: int, workers: int) -> DataLoader[Example]:
    return DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers, collate_fn=padded)


def pairs_per_second(data: Clips, batch: int, workers: int, batches: int) -> float:
    """Median over windows of the stream, its first batches (start of the workers) left out."""
    stream: Iterator[object] = iter(loader(data, batch, workers))
    for _ in range(4):
        next(stream)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(batches):
            next(stream)
        rates.append(batches * batch / (time.perf_counter() - began))
    return statistics.median(rates)


def examples_per_second(data: Clips, batch: int, steps: int) -> float:
    """Of forward and backward of the shipped model, batches made ready beforehand."""
    model, processor = load_model("mini"), load_processor("mini")
    model.train()
    stream = iter(loader(data, batch, 0))
    taken = []
    for _ in range(steps + 1):
        questions, clips, lengths, answers = next(stream)
        ready = processor(
            questions, [clip[:n].numpy() for clip, n in zip(clips, lengths, strict=True)], answers=answers
        )
        began = time.perf_counter()
        model(**ready).loss.backward()
        model.zero_grad()
        taken.append(time.perf_counter() - began)
    return batch / statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--batches", type=int, default=20, help="in each of five timed windows")
    parser.add_argument("--steps", type=int, default=5, help="timed training steps")
    options = parser.parse_args()
    print_machine()
    data = Clips(options.corpus)
    print(f"{len(data)} pairs of the training split")
    for batch in (8, 32):
        for workers in (0, 1, 2):
            rate = pairs_per_second(data, batch, workers, max(2, options.batches * 8 // batch))
            print(f"batches of {batch}, {workers} workers: {rate:.0f} pairs/s")
            if (batch, workers) == (8, 1):
                one_worker = rate
    step = examples_per_second(data, 8, options.steps)
    print(f"training step of mini, batch of 8: {step:.2f} examples/s")
    print(f"one loader worker brings {one_worker / step:.0f} times what a training step takes")


if __name__ == "__main__":
    main()
