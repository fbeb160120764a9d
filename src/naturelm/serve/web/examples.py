"""Recordings to try the page with: those of the repository's examples, which go into the package as well."""

from dataclasses import dataclass
from pathlib import Path

CREDIT = (
    "Example recordings by Joseph Sardin, "
    '<a href="https://bigsoundbank.com/" rel="noreferrer">bigsoundbank.com</a>, CC0, shortened.'
)
_IN_PACKAGE = Path(__file__).parent / "recordings"
_IN_REPOSITORY = Path(__file__).parents[4] / "examples" / "recordings"


@dataclass(frozen=True)
class Example:
    """A recording to try. name: as a button says it."""

    name: str
    path: Path


def examples() -> list[Example]:
    """The examples, in the order of their names; none where neither place has them."""
    for folder in (_IN_PACKAGE, _IN_REPOSITORY):
        found = sorted(folder.glob("*.flac"))
        if found:
            return [Example(path.stem.capitalize(), path) for path in found]
    return []
