"""Scoring 100,000 predictions with 200 labels, against the plain way: the distance to every label for every row."""

import argparse
import random
import sys

from common import alternate, print_machine
from rapidfuzz.distance import Levenshtein

from naturelm.bench.beans_zero import beans_zero_components
from naturelm.bench.published import Prediction, matched_answers, published_scores

NAME = "unseen-species-cmn"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument(
        "--distinct",
        type=int,
        default=5_000,
        help="answers that are no label; a system writes the same ones often",
    )
    parser.add_argument("--target", type=float, default=20.0, help="least ratio; exit 1 below it")
    parser.add_argument("--repeats", type=int, default=1, help="timed rounds; the median counts")
    options = parser.parse_args()
    print_machine()
    rng = random.Random(0)
    labels = list(beans_zero_components()[NAME].labels[: options.labels])
    wrong = [misspelt(rng.choice(labels), rng) for _ in range(options.distinct)]
    rows = [
        Prediction(
            NAME, rng.choice(labels) if rng.random() < 0.5 else rng.choice(wrong), labels[n % len(labels)]
        )
        for n in range(options.rows)
    ]
    written, right = [row.prediction for row in rows], [row.label for row in rows]
    print(f"{len(rows):,} rows, {len(labels)} labels, {len(set(written)):,} distinct answers")
    found: dict[str, list[str]] = {}

    def plain() -> None:
        # The first of the nearest, as everywhere; one call a pair, in C.
        known = sorted(labels)
        found["plain"] = [min(known, key=lambda label: Levenshtein.distance(text, label)) for text in written]

    def ours() -> None:
        found["ours"] = matched_answers(written, right, "classification")

    slow, fast = alternate({"every label for every row": plain, "matched_answers": ours}, options.repeats)
    same = found["plain"] == found["ours"]
    (whole,) = alternate(
        {"all published scores of these rows": lambda: published_scores(rows)}, options.repeats
    )
    print(f"matching: {slow.ratio(fast)}; identical: {same}")
    print(f"plain matching against all of our scoring: {slow.ratio(whole)} (target {options.target:g})")
    sys.exit(not same or slow.cpu / whole.cpu < options.target)


def misspelt(label: str, rng: random.Random) -> str:
    """The label with one to four letters changed."""
    letters = list(label)
    for _ in range(rng.randint(1, 4)):
        letters[rng.randrange(len(letters))] = rng.choice("abcdefghijklmnopqrstuvwxyz ")
    return "".join(letters)


if __name__ == "__main__":
    main()
