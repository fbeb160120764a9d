"""Small suites on disk, in the layouts in which BEANS-Zero comes."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

RATE = 16_000
AUDIO_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def tone(number: int, seconds: float = 0.1) -> np.ndarray:
    """(samples,) float32, another for each number."""
    return (0.3 * np.sin(np.arange(round(seconds * RATE)) * (0.05 + 0.01 * number))).astype(np.float32)


def flac(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def a_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of BEANS-Zero; its sound as a list of floats."""
    labels = ("dog", "cat", "frog")
    return {
        "audio": tone(number, 0.1 + 0.05 * (number % 3)).tolist(),
        "id": f"row-{number:03d}",
        "dataset_name": "esc50",
        "source_dataset": "esc50",
        "task": "classification",
        "instruction_text": "What sound is heard?",
        "output": labels[number % 3],
        "file_name": f"{number // 2}.wav",
        "license": "CC0",
        "created_at": "2025-01-01",
        "metadata": json.dumps({"sample_rate": RATE}),
        **changes,
    }


def to_table(rows: Sequence[Mapping[str, Any]], audio: pa.DataType | None = None) -> pa.Table:
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "audio"}
    sound = pa.array([row["audio"] for row in rows], audio or pa.list_(pa.float64()))
    return pa.table({"audio": sound, **columns})


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], audio: pa.DataType | None = None) -> Path:
    """One Parquet file with groups of four rows; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(rows, audio), path, row_group_size=4)
    return path.parent


def write_arrow(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """An Arrow stream, as `save_to_disk` writes its parts; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = to_table(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return path.parent


def mixed_rows(count: int = 24) -> list[dict[str, Any]]:
    """Rows of three components, one of each task."""
    rows = []
    for number in range(count):
        if number % 4 == 2:
            output = ("Minke whale", "None")[number // 4 % 2]
            change = {"dataset_name": "hiceas", "task": "detection", "output": output}
        elif number % 4 == 3:
            change = {
                "dataset_name": "captioning",
                "task": "captioning",
                "output": f"Bird {number} sings at dawn",
            }
        else:
            change = {}
        rows.append(a_row(number, **change))
    return rows
