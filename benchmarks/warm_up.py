"""What parts of `mini`'s warm-up bring: the same short warm-up with each and without, then names of unheard clips.

    python benchmarks/warm_up.py --corpus starter
    python benchmarks/warm_up.py --corpus starter --side as-shipped --side no-kept-features --steps 600

All take as many steps of as many clips; the lessons take the share of them that they have in `mini-stage1`. Then the
reader through word embeddings names the clips of the validation part whose common name is asked for: the share of the
answers' words that are among as many words that it finds likeliest. Chance is what the most frequent words would have.
"""

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from naturelm.corpus.storage import Corpus
from naturelm.train.building import build_model
from naturelm.train.checkpoints import PHASES, list_checkpoints
from naturelm.train.data import Example, TrainingRows, Unreadable
from naturelm.train.options import TrainOptions, load_train_options
from naturelm.train.run import train
from naturelm.train.runlog import read_log
from naturelm.train.trainer import READERS, load_weights
from naturelm.train.warm_up import (
    WarmUpCollator,
    WordHearer,
    answer_words,
    learn_words,
    load_readers,
    word_targets,
)

CONFIGURATION = "mini-stage1"
TASK = "species-common"
SIDES: dict[str, dict[str, Any]] = {
    "as-shipped": {},
    "no-lessons": {"lessons": ()},
    "no-kept-features": {"keep_features": False},
    "no-colouring": {"colouring_db": 0.0},
}
"""What each side has otherwise than `mini-stage1`."""


def main() -> None:
    arguments = _arguments()
    shipped = _shortened(arguments.corpus, arguments.steps)
    assert shipped.warm_up is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("warm-up", "words right", "first / it", "seconds of steps", "it / first"):
        table.add_column(heading)
    shares, times = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for side in arguments.side or SIDES:
            run = Path(scratch, side)
            options = replace(shipped, warm_up=replace(shipped.warm_up, **SIDES[side]))
            train(options, run)
            shares.append(_words_right(options, run))
            times.append(
                max(
                    line["seconds"]
                    for line in read_log(run)
                    if line["kind"] == "step" and line["phase"] == PHASES[0]
                )
            )
            ratios = shares[0] / shares[-1], times[-1] / times[0]
            table.add_row(
                side, f"{shares[-1]:.1%}", f"{ratios[0]:.2f}", f"{times[-1]:.0f}", f"{ratios[1]:.2f}"
            )
    console = Console(width=100)
    console.print(table)
    console.print(f"chance: {_chance(shipped):.1%}")


def _shortened(corpus: Path, steps: int) -> TrainOptions:
    """The first stage's warm-up in so many steps, and next to nothing after it."""
    options = load_train_options(CONFIGURATION, corpus=[corpus])
    assert options.warm_up is not None
    lessons = tuple(
        replace(lesson, steps=max(1, lesson.steps * steps // options.warm_up.steps))
        for lesson in options.warm_up.lessons
    )
    warm_up = replace(options.warm_up, steps=steps, lessons=lessons)
    return replace(
        options, warm_up=warm_up, steps=1, evaluation_pairs=0, save_every=steps, log_every=min(10, steps)
    )


def _words_right(options: TrainOptions, run: Path) -> float:
    """Share of the words of the validation part's common names, by the reader through word embeddings."""
    assert options.warm_up is not None
    last = [each for each in list_checkpoints(run / "checkpoints") if each.phase == PHASES[0]][-1]
    built = build_model(options.model)
    targets = word_targets([Corpus(folder) for folder in options.corpus], options.warm_up)
    learn_words(built.model, built.processor, targets)
    load_weights(built.model, last.folder)
    hearer = WordHearer(built.model, built.processor, targets).eval()
    load_readers(hearer, last.folder / READERS)
    collate = WarmUpCollator(built.processor, targets)
    rows = TrainingRows(
        [Corpus(options.corpus[0], "validation")],
        built.processor.feature_extractor.sampling_rate,
        options.warm_up.clip_seconds or options.model.clip_seconds,
    )
    named: list[Example | Unreadable] = [
        row
        for row in map(rows.__getitem__, range(len(rows)))
        if isinstance(row, Example) and row.task == TASK
    ]
    hits = []
    with torch.no_grad():
        for first in range(0, len(named), 16):
            batch = collate(named[first : first + 16])
            del batch["examples"]
            hits += hearer(**batch)["hits"].tolist()
    return float(np.mean(hits))


def _chance(options: TrainOptions) -> float:
    """Words right for whoever always says the words that names of the training part have most often."""
    (folder,) = options.corpus
    counts = Counter(word for words in _answers(Corpus(folder)) for word in words)
    order = [word for word, _ in counts.most_common()]
    answers = _answers(Corpus(folder, "validation"))
    return float(np.mean([len(words.intersection(order[: len(words)])) / len(words) for words in answers]))


def _answers(corpus: Corpus) -> list[set[str]]:
    """The words of each common name."""
    table = corpus.table(["task", "output"]).to_pydict()
    return [
        set(answer_words(output))
        for task, output in zip(table["task"], table["output"], strict=True)
        if task == TASK
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--side", action="append", choices=SIDES, help="again and again; without it all")
    parser.add_argument("--steps", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
