"""Rows per second of the benchmark's runner with a system that does nothing: what reading and writing alone cost."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import print_machine

from naturelm.bench.models.base import BenchAnswer, BenchItem, ModelInfo
from naturelm.bench.running.prompts import Variant
from naturelm.bench.running.runner import RunOptions
from naturelm.bench.running.runs import RunRequest, run_suite
from naturelm.bench.suites.files import LocalFiles
from naturelm.bench.suites.suite import open_suite

RATE = 16_000


class Nothing:
    """Answers with the first label."""

    info = ModelInfo("nothing")

    def answer(self, batch: Sequence[BenchItem]) -> list[BenchAnswer]:
        return [BenchAnswer(item.labels[0]) for item in batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--data", type=Path, help="a folder to read in place of made rows of lists of floats")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = options.data or write(Path(name) / "test.parquet", options.rows, options.seconds)
        suite = open_suite(LocalFiles(folder))
        request = RunRequest(
            "nothing", "beans-zero", "", (), None, None, 0, (), 0, batch_size=options.batch_size
        )
        before = time.process_time()
        count = run_suite(
            Nothing(), suite, Path(name) / "run", request, [Variant()], RunOptions(options.batch_size)
        )
        cpu = time.process_time() - before
    print(
        f"{count.rows:,} rows in {count.seconds:.2f} s, {cpu:.2f} s of CPU time: {count.rows / count.seconds:,.0f} rows a "
        f"second, {count.rows / cpu:,.0f} a second of CPU time; {count.waiting / count.seconds:.0%} of the time spent "
        "waiting for sound"
    )


def write(path: Path, rows: int, seconds: float) -> Path:
    """Rows as BEANS-Zero has them on the hub: sound as lists of 64-bit numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    schema = pa.schema(
        [("audio", pa.list_(pa.float64()))]
        + [
            (name, pa.string())
            for name in ("id", "dataset_name", "task", "instruction_text", "output", "metadata")
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 100):
            writer.write_table(
                pa.Table.from_pylist(
                    [
                        {
                            "audio": rng.standard_normal(round(seconds * RATE)) * 0.1,
                            "id": str(number),
                            "dataset_name": "esc50",
                            "task": "classification",
                            "instruction_text": "What is the sound?",
                            "output": ("dog", "rooster")[number % 2],
                            "metadata": json.dumps({"sample_rate": RATE}),
                        }
                        for number in range(first, min(first + 100, rows))
                    ],
                    schema=schema,
                )
            )
    return path.parent


if __name__ == "__main__":
    main()
