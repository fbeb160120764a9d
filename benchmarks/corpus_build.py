"""Recordings opened and pairs made per second when a corpus is built, with one and with two processes.

    python benchmarks/corpus_build.py [--part 0.1]

Builds a part of the starter corpus twice in temporary folders. What it is made of is fetched, and speech
and music are rendered, before the clock starts.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import print_machine

from naturelm.corpus.build import build_corpus
from naturelm.corpus.options import BuildOptions
from naturelm.corpus.prepare import listed
from naturelm.corpus.recordings import Recording
from naturelm.corpus.starter import starter_options


class Clock:
    """When each stage of a build began."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def __call__(self, stage: str, _done: int, _total: int | None) -> None:
        self.began.setdefault(stage, time.perf_counter())


def build(options: BuildOptions, workers: int, recordings: int) -> tuple[float, float]:
    """Recordings and pairs per second."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        report = build_corpus(options, Path(folder) / "corpus", workers=workers, progress=clock)
        ended = time.perf_counter()
    gathering = clock.began["gathering"]
    pairs = sum(sum(of.values()) for of in report.pairs.values())
    print(
        f"{workers} processes: {recordings / (gathering - began):.0f} recordings/s opened, "
        f"{pairs / (ended - gathering):.0f} pairs/s made; {ended - began:.0f} s for {pairs} pairs in all"
    )
    return recordings / (gathering - began), pairs / (ended - gathering)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", type=float, default=0.2, help="of the pairs of each task")
    options = parser.parse_args()
    print_machine()
    starter = starter_options()
    shares = [
        replace(share, pairs=share.pairs and max(1, round(share.pairs * options.part)))
        for share in starter.shares
    ]
    part = replace(starter, shares=tuple(shares), pairs_per_shard=128)
    recordings = sum(isinstance(row, Recording) for row in listed(part))
    one, two = (build(part, workers, recordings) for workers in (1, 2))
    print(f"two processes against one: {two[0] / one[0]:.2f} opening, {two[1] / one[1]:.2f} making")


if __name__ == "__main__":
    main()
