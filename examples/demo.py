"""`make demo`: the shipped model is asked about the shipped recordings.

The recordings are stretches that it was not trained on, of recordings whose rest it was trained
on (see examples/recordings/SOURCES.md). Prints question, answer, probability and time.
"""

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from naturelm import NatureLM

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.flac"))
FREE_QUESTION = "Which animal is this?"
CLOSED_QUESTION = "What is the common name for the focal species in the audio?"
CHOICES = [
    *(
        "cat",
        "chicken",
        "cow",
        "crow",
        "dog",
        "duck",
        "elephant",
        "frog",
        "goat",
        "horse",
        "lion",
        "orca",
        "owl",
    ),
    *("penguin", "pig", "sheep"),
]


def main() -> None:
    console = Console()
    began = time.perf_counter()
    model = NatureLM.from_pretrained("mini")
    console.print(f"model mini (revision {model.revision}) loaded in {time.perf_counter() - began:.1f} s\n")

    free = model.ask(RECORDINGS, FREE_QUESTION)
    closed = model.ask(RECORDINGS, CLOSED_QUESTION, choices=CHOICES, none_of_these=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("recording", "question", "answer", "probability", "time (s)"):
        table.add_column(heading, justify="right" if heading in ("probability", "time (s)") else "left")
    for answer in (*free, *closed):
        seconds = answer.seconds.hear + answer.seconds.prefill + answer.seconds.answer
        asked = answer.question + (f" (one of {len(answer.choices)})" if answer.choices else "")
        table.add_row(
            Path(answer.recording).name, asked, answer.text, f"{answer.probability:.2f}", f"{seconds:.2f}"
        )
    console.print(table)
    for kind, answers in (("free answers", free), ("closed set", closed)):
        right = sum(Path(a.recording).stem == a.text.lower() for a in answers)
        console.print(f"\n{kind}: {right} of {len(answers)} right", end="")
    console.print(
        "\n\nThis model knows four dozen kinds of real animal, from a few short recordings each, and no\n"
        "others. It shows how things work; for real answers about species load the official weights (see README)."
    )


if __name__ == "__main__":
    main()
