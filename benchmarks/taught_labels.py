"""What the linear reader of taught labels finds by itself, without the language model.

    python benchmarks/taught_labels.py MODEL --corpus starter

The rows are the components `mini-real-crops` and `mini-real-animals` of a starter corpus: animals recorded by others
than those whose recordings were trained on. Printed are the shares of rows of which the right animal stands first among
the taught labels, among the first that are spelt out, and first among the animals of the component. The language model cannot
be expected to get more right by reading them; how much it gets is what `naturelm experiments score` prints.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from naturelm.bench.components import read_components
from naturelm.corpus.storage import Corpus
from naturelm.model.loading import load_model, load_processor
from naturelm.train.data import Example, TrainingRows, sound_batch

COMPONENTS = ("mini-real-crops", "mini-real-animals")


def main() -> None:
    arguments = _arguments()
    model, processor = load_model(arguments.model).eval(), load_processor(arguments.model)
    config = model.config.projector_config
    if not config.taught_labels:
        raise SystemExit(f"{arguments.model}: this model's ear was taught no labels")
    corpus = Corpus(arguments.corpus, "test")
    seconds = model.config.max_clip_seconds
    rows = TrainingRows([corpus], processor.feature_extractor.sampling_rate, seconds, model.ear.hear)
    common = [name.rpartition(" (")[0] for name in config.taught_labels]
    for component in read_components(arguments.corpus, names=COMPONENTS):
        among = [place for place, name in enumerate(common) if name in component.labels]
        first = spelt = chosen = 0
        for row in component.rows:
            example = rows[row.number]
            assert isinstance(example, Example)
            heard = sound_batch([example], processor)["heard"]
            with torch.no_grad():
                scores = model.hints.taught_scores(heard.last_hidden_state, heard.frame_mask)[0].numpy()
            order = [common[place] for place in np.argsort(-scores)]
            first += order[0] == row.answer
            spelt += row.answer in order[: config.taught_hints]
            chosen += common[max(among, key=lambda place: float(scores[place]))] == row.answer
        n = len(component.rows)
        print(
            f"{component.name}, n {n}: first of {len(common)} {first / n:.1%}, "
            f"among the first {config.taught_hints} {spelt / n:.1%}, first of the component's {len(among)} {chosen / n:.1%}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--corpus", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
