"""Labels that a frozen ear is taught beside its own: the animals of the corpora, of which it may know none.

Logistic regression on the ear's embeddings tells them apart better than a small language model learns to from the same
recordings, and knows how sure it is. What it finds likeliest is spelt out for the language model, as the ear's own
labels are (`naturelm.model.label_hints`).
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from naturelm.corpus.recordings import FloatArray
from naturelm.model.label_hints import TaughtLabels
from naturelm.train.data import Example, TrainingRows
from naturelm.train.label_rows import LabelRows, spread
from naturelm.train.mixture import MixtureRows
from naturelm.train.options import TrainError

_NAMING = "species-common"
_MOST_CLIPS = 50
"""Of a label. Each is heard, which takes a while."""
_LEAST_CLIPS = 5
_MOST_OTHERS = 300
_MOST_MADE = 1200
_INVERSE_STRENGTH = 0.003
"""Of the penalty on weights, which are many for few recordings."""
_MOST_ROUNDS = 500
_NEVER = -1e4


def fit_taught_labels(
    rows: TrainingRows,
    columns: MixtureRows,
    drawn: np.ndarray,
    others: Sequence[int],
    made: LabelRows | None,
    *,
    least: int = 2,
    silent: bool = False,
) -> TaughtLabels:
    """Fit a reader of the animals that the training pairs name.

    columns: of `rows`. drawn: (rows,) bool, the rows that training draws from. others: numbers of rows, of which
    those without an animal are heard. made: pairs about the ear's own labels, which are none of the animals.
    least: labels that are needed, 2 or more. silent: show no bar on a terminal.

    TrainError if fewer animals are named often enough.
    """
    without = [number for number in others if not columns.taxa[number]]
    numbers = [*_clips_of_animals(columns, drawn), *spread(without, _MOST_OTHERS)]
    examples = zip(numbers, _heard(rows, numbers, silent), strict=True)
    means: list[FloatArray] = []
    names: list[str] = []
    for number, example in examples:
        if example is None or example.frames is None:
            continue  # training itself stops at a row that cannot be read, and says why
        means.append(example.frames.mean(0))
        taxa = columns.taxa[number]
        names.append(_spelling(example.answer, taxa[0]) if taxa else "")
    if made is not None:
        for row in range(min(len(made), _MOST_MADE)):
            frames = made[row].frames
            assert frames is not None
            means.append(frames.mean(0))
            names.append("")
    return _fit(np.stack(means) if means else np.zeros((0, 1), np.float32), names, max(2, least))


def _clips_of_animals(columns: MixtureRows, drawn: np.ndarray) -> Iterator[int]:
    """Numbers of the rows that ask for the name of one animal, up to so many of each, evenly spread."""
    of_taxon: dict[str, list[int]] = defaultdict(list)
    for number in np.flatnonzero(drawn & (columns.tasks == _NAMING)):
        taxa = columns.taxa[int(number)]
        if len(taxa) == 1:
            of_taxon[taxa[0]].append(int(number))
    for numbers in of_taxon.values():
        if len(numbers) >= _LEAST_CLIPS:
            yield from spread(numbers, _MOST_CLIPS)


def _heard(rows: TrainingRows, numbers: Sequence[int], silent: bool) -> Iterable[Example | None]:
    shown = tqdm(numbers, desc="teaching labels", unit="clip", disable=silent or not sys.stderr.isatty())
    for number in shown:
        row = rows[number]
        yield row if isinstance(row, Example) else None


def _spelling(common: str, scientific: str) -> str:
    return f"{common} ({scientific})"


def _fit(means: FloatArray, names: Sequence[str], least: int) -> TaughtLabels:
    """Softmax over the names and, last, none of them (the empty name)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labels = sorted(set(names) - {""})
    if len(labels) < least:
        raise TrainError(
            f"model.projector.taught_hints: the corpora name {len(labels)} animals in {_LEAST_CLIPS} clips or more, "
            f"and {least} are needed; set it to 0"
        )
    places = {name: place for place, name in enumerate([*labels, ""])}
    wanted = np.array([places[name] for name in names])
    centre, scale = means.mean(0), means.std(0) + 1e-6
    reader = LogisticRegression(C=_INVERSE_STRENGTH, max_iter=_MOST_ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as far as it gets is near enough
        reader.fit((means - centre) / scale, wanted)
    weight = np.zeros((len(places), means.shape[1]))
    bias = np.full(len(places), _NEVER)
    for place, own_weight, own_bias in zip(
        reader.classes_, _per_class(reader.coef_), _per_class(reader.intercept_), strict=True
    ):
        weight[place] = own_weight / scale
        bias[place] = own_bias - weight[place] @ centre
    return TaughtLabels(tuple(labels), weight.astype(np.float32), bias.astype(np.float32))


def _per_class(values: np.ndarray) -> np.ndarray:
    """Of two classes scikit-learn keeps one, of which the other is the reverse."""
    return np.concatenate([-values / 2, values / 2]) if len(values) == 1 else values
