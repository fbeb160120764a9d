"""The hub's files: its protocol, its cache, and how much is read at a time."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.hub_server import COMMIT, serving_hub
from bench.suite_folders import RATE, a_row, mixed_rows, to_table, write_parquet
from naturelm.bench.suites.files import LocalFiles, SuiteError
from naturelm.bench.suites.suite import open_suite
from naturelm.errors import AudioError

HUB_ID = "EarthSpeciesProject/BEANS-Zero"


def noisy(number: int, seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A row whose sound no compression makes small."""
    samples = np.random.default_rng(number).standard_normal(round(seconds * RATE)) * 0.1
    return a_row(number, audio=samples, **changes)


def parquet(rows: list[dict[str, Any]], group: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(to_table(rows), buffer, row_group_size=group)
    return buffer.getvalue()


def test_the_hub_is_read_in_place_and_no_more_than_what_is_asked(tmp_path: Path) -> None:
    groups, of_group = 6, 20
    rows = [
        noisy(n, dataset_name=("esc50", "cbi")[n >= 60], output="Ovenbird") for n in range(groups * of_group)
    ]
    content = parquet(rows, of_group)
    # As the published repository has it: shards in its root, all of one split.
    files = {"shard_00000.parquet": content, "README.md": b"# BEANS-Zero", "run.py": b"1/0"}
    command = [
        sys.executable,
        "-m",
        "naturelm",
        "bench",
        "run",
        "-m",
        "most-frequent",
        "-o",
        "run",
        "--limit",
        "5",
    ]
    with serving_hub(HUB_ID, files) as (address, asked):
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0",
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        code = "from naturelm.bench.suites.files import hub_files; hub_files('nobody/nothing')"
        missing = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert "10 of 10 rows asked now" in done.stderr
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["request"]["data"] == f"{HUB_ID}@{COMMIT[:12]}" and about["rows"] == 10
    paths = [path for _, path in asked if "/resolve/" in path]
    assert all("/resolve/" + COMMIT + "/shard_" in path for path in paths)
    ends = [path.rpartition("bytes=")[2].split("-") for path in paths]
    read = sum(min(int(last), len(content)) - int(first) for first, last in ends)
    # The texts of all rows, the sound of the two groups that the asked rows are in.
    assert read < len(content) * 2.5 / groups
    assert "SuiteError: nobody/nothing: no folder here, and not to be had from the hub" in missing.stderr


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "from naturelm.bench.suites.files import hub_files; hub_files('a/b')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "SuiteError: a/b:" in done.stderr and "give a local copy with --data" in done.stderr


@dataclass(frozen=True)
class Watched(LocalFiles):
    """Files that are read as those of the hub are, and note how much at a time."""

    reads: list[int] = field(default_factory=list)

    def open(self, name: str) -> Any:
        reads = self.reads

        class Noting(io.FileIO):
            def read(self, size: int | None = -1) -> bytes:
                found = super().read(-1 if size is None else size)
                reads.append(len(found))
                return found

        return Noting(self._folder / name)


def test_a_large_group_of_rows_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rows = [noisy(n, 2.0) for n in range(100)]
    (tmp_path / "test.parquet").write_bytes(parquet(rows, len(rows)))
    size = (tmp_path / "test.parquet").stat().st_size
    assert size > 24e6
    files = Watched(tmp_path)
    suite = open_suite(files)
    assert sum(files.reads) < 200_000  # the texts of all rows
    before, most = pa.total_allocated_bytes(), 0
    heard = 0
    for _, sound in suite.sounds(suite.rows):
        assert not isinstance(sound, AudioError)
        heard += len(sound[0])
        most = max(most, pa.total_allocated_bytes() - before)
    assert heard == 100 * 2 * RATE
    assert max(files.reads) <= 2**22 and sum(files.reads) < 1.2 * size
    assert most < size * 0.75


def test_a_snapshot_of_the_hubs_cache_is_a_folder_of_data(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--EarthSpeciesProject--BEANS-Zero"
    data = cache / "snapshots" / COMMIT / "data"
    blob = write_parquet(tmp_path / "made.parquet", mixed_rows(8)) / "made.parquet"
    (cache / "blobs").mkdir(parents=True)
    data.mkdir(parents=True)
    shutil.copy(blob, cache / "blobs" / "ab12")
    (data / "test-00000-of-00001.parquet").symlink_to("../../../blobs/ab12")
    for folder in (cache, data.parent, data, data / "test-00000-of-00001.parquet"):
        suite = open_suite(LocalFiles(folder))
        assert len(suite.rows) == 8
        assert not any(isinstance(sound, AudioError) for _, sound in suite.sounds(suite.rows))
    # Nothing else outside is followed.
    (data / "test-00000-of-00001.parquet").unlink()
    (data / "test-00000-of-00001.parquet").symlink_to(blob)
    with pytest.raises(SuiteError, match="no Parquet or Arrow file"):
        open_suite(LocalFiles(data.parent))
    (cache / "snapshots" / "another").mkdir()
    with pytest.raises(SuiteError, match=r"holds 2 commits of the data; give one, such as .*snapshots/0123"):
        open_suite(LocalFiles(cache))
