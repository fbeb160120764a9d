"""Which of BirdNET's names does a model behind BirdNET say, and does it say those that it was not taught?

    python benchmarks/birdnet_names.py MODEL --corpus CORPUS [--labels 500 | --labels all] [--out names.csv]

For each label an embedding is made that BirdNET takes for it (see `naturelm.train.label_rows`), over sounds of the
test part, which no training has seen, and the model is asked for the common and for the scientific name. Printed are
the shares that come back to the letter, with 95% bootstrap intervals: of labels that training draws, and of the tenth
that it never draws. This shows that the names can be said; how often BirdNET is right about a bird is another matter.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from naturelm.corpus import prompts
from naturelm.corpus.storage import Corpus
from naturelm.model.ear import EarOutput
from naturelm.model.loading import load_model, load_processor
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.data import TrainingRows
from naturelm.train.label_rows import background_rows, label_embeddings
from naturelm.train.mixture import mixture_rows

BATCH = 32
MOST_TOKENS = 24


def main() -> None:
    arguments = _arguments()
    model, processor = load_model(arguments.model).eval(), load_processor(arguments.model)
    rate = processor.feature_extractor.sampling_rate
    rows = TrainingRows([Corpus(arguments.corpus, "test")], rate, 3, model.ear.hear)
    made = label_embeddings(model.ear, rows, background_rows(mixture_rows(rows.corpora), {}))
    species = [number for number, label in enumerate(made.labels) if label.is_species]
    rng = np.random.default_rng(arguments.seed)
    chosen = species if arguments.labels is None else sorted(rng.permutation(species)[: arguments.labels])
    found = []
    for start in track(
        range(0, len(chosen), BATCH),
        description="asking",
        disable=not sys.stderr.isatty(),
    ):
        numbers = [int(number) for number in chosen[start : start + BATCH]]
        frames = np.stack([made.make(number, arguments.score, rng) for number in numbers])
        common = written(model, processor, frames, prompts.COMMON_NAME.real[0])
        scientific = written(model, processor, frames, prompts.SCIENTIFIC_NAME.real[0])
        for number, said, in_latin in zip(numbers, common, scientific, strict=True):
            label = made.labels[number]
            found.append((label, said == label.common, in_latin == label.scientific))
    print(
        f"{len(found)} of {len(species)} species among {len(made.labels)} labels, score {arguments.score:g}"
    )
    for name, held_out in (("drawn in training", False), ("never drawn", True)):
        part = np.array([(a, b) for label, a, b in found if label.is_held_out == held_out], dtype=float)
        if len(part):
            print(
                f"{name}: common name {share(part[:, 0])}, scientific name {share(part[:, 1])}, n = {len(part)}"
            )
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(
                ["scientific_name", "common_name", "drawn_in_training", "says_common", "says_scientific"]
            )
            for label, said, in_latin in found:
                table.writerow([label.scientific, label.common, not label.is_held_out, said, in_latin])


@torch.inference_mode()
def written(
    model: NatureLMForConditionalGeneration, processor: NatureLMProcessor, frames: np.ndarray, question: str
) -> list[str]:
    """Answers to one question about (clips, 1, size) embeddings."""
    samples = model.config.audio_config.min_samples
    text = processor.text_batch([question] * len(frames), [[samples]] * len(frames))
    heard = EarOutput(torch.from_numpy(frames), torch.ones(frames.shape[:2], dtype=torch.bool))
    ids = model.generate(
        inputs_embeds=model.embed_prompt(text["input_ids"], model.bridge(heard)),
        attention_mask=text["attention_mask"],
        max_new_tokens=MOST_TOKENS,
        do_sample=False,
        eos_token_id=processor.end_ids()[0],
        pad_token_id=processor.pad_token_id,
    )
    end = processor.end_ids()[0]
    return [processor.decode_answer(row[: row.index(end)] if end in row else row) for row in ids.tolist()]


def share(right: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    means = rng.choice(right, (1000, len(right))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{right.mean():.1%} ({low:.1%} to {high:.1%})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument(
        "--labels",
        type=lambda text: None if text == "all" else int(text),
        default=500,
        help="how many, or all",
    )
    parser.add_argument("--score", type=float, default=2.0, help="BirdNET's score that is aimed at")
    parser.add_argument("--out", type=Path, help="CSV file, a row a label")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
