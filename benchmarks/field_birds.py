"""Birds in field recordings: what a model behind BirdNET says, beside what BirdNET itself says.

    python benchmarks/field_birds.py MODEL --corpus starter

The rows are the component `mini-field-birds` of a starter corpus: stretches of annotated recordings that packages
carry, none of them trained on. The model writes a scientific and a common name; BirdNET's own answer is the label
that scores highest in any window. Names are compared by species: BirdNET's common names are not always ours.
"""

import argparse
from pathlib import Path

import soxr
from rich.console import Console
from rich.table import Table

from naturelm import NatureLM
from naturelm.audio import SAMPLE_RATE
from naturelm.corpus import prompts
from naturelm.corpus.storage import Corpus, decode

COMPONENT = "mini-field-birds"


def main() -> None:
    arguments = _arguments()
    naturelm = NatureLM.from_pretrained(arguments.model)
    labels, _, _ = naturelm.model.ear.class_directions()
    corpus = Corpus(arguments.corpus, "test")
    names = corpus.table(["dataset_name"])["dataset_name"].to_pylist()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("right", "scientific name written", "common name written", "BirdNET", "its score"):
        table.add_column(heading)
    counts = {"scientific name": 0, "common name": 0, "BirdNET": 0}
    rows = [number for number, name in enumerate(names) if name == COMPONENT]
    for number in rows:
        pair = corpus[number]
        clip = soxr.resample(decode(pair), SAMPLE_RATE, naturelm.sampling_rate)
        questions = [prompts.SCIENTIFIC_NAME.real[0], prompts.COMMON_NAME.real[0]]
        scientific, common = (
            answer.text for answer in naturelm.ask(clip, questions, source_rate=naturelm.sampling_rate)
        )
        scores = naturelm.model.ear.predict(clip).max(0)
        label = labels[int(scores.argmax())]
        (right,) = pair.taxa
        accepted = {pair.output.lower()} | {
            each.common.lower() for each in labels if each.scientific == right
        }
        counts["scientific name"] += scientific == right
        counts["common name"] += common.lower() in accepted
        counts["BirdNET"] += label.scientific == right
        table.add_row(right, scientific, common, label.scientific, f"{scores.max():.1f}")
    console = Console(width=140)
    console.print(table)
    for what, count in counts.items():
        console.print(f"{what}: {count} of {len(rows)} right")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--corpus", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
