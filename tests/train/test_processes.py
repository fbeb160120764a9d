"""Two processes on gloo train as one does, with copies of the model and with its parts spread."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import WARM_UP, losses, tiny_options

from naturelm.model.loading import load_model
from naturelm.train.options import TrainOptions, save_train_options
from naturelm.train.run import train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


def launch(options: TrainOptions, folder: Path, *more: str) -> Path:
    """Train in two processes; the run's folder."""
    save_train_options(options, folder / "options.yaml")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "naturelm", "train", str(folder / "options.yaml"), "--out", str(folder / "run"), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def assert_same_losses(one: Path, other: Path, phase: str, steps: int) -> None:
    first, second = losses(one, phase), losses(other, phase)
    assert set(first) == set(second) == set(range(1, steps + 1))
    assert all(abs(first[step] - second[step]) < 1e-4 for step in first)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(root: Path, tmp_path: Path, parallel: str) -> None:
    options = tiny_options(root, steps=20, micro_batch_size=2, evaluation_pairs=8, warm_up=WARM_UP)
    train(options, tmp_path / "one")
    run = launch(replace(options, parallel=parallel), tmp_path)

    assert_same_losses(tmp_path / "one", run, "warm-up", WARM_UP.steps)
    assert_same_losses(tmp_path / "one", run, "answers", 20)
    before, after = load_model(tmp_path / "one" / "model"), load_model(run / "model")
    weights = after.state_dict()
    assert all(
        torch.allclose(tensor, weights[name], atol=1e-3) for name, tensor in before.state_dict().items()
    )
    measured = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    alone = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    (two,), (one,) = ([each for each in log if each["kind"] == "evaluation"] for log in (measured, alone))
    assert abs(one["loss"] - two["loss"]) < 1e-3
    assert {task: sums["pairs"] for task, sums in one["tasks"].items()} == {
        task: sums["pairs"] for task, sums in two["tasks"].items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_go_on_where_they_stopped(root: Path, tmp_path: Path, parallel: str) -> None:
    options = tiny_options(root, steps=6, micro_batch_size=2, save_every=3, keep=9, parallel=parallel)
    run = launch(options, tmp_path)
    unbroken = losses(run)
    shutil.rmtree(run / "checkpoints" / "answers-000006")
    shutil.rmtree(run / "model")
    launch(options, tmp_path, "--resume")

    assert all(abs(unbroken[step] - after) < 1e-4 for step, after in losses(run).items())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 4, 5, 6]


FULL_DISK_FOR_ONE = """
import os, resource, signal, sys
from naturelm.cli import main
if os.environ["RANK"] == "0":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
sys.argv = ["naturelm", *sys.argv[1:]]
main()
"""


def test_a_full_disk_of_one_process_stops_both(root: Path, tmp_path: Path) -> None:
    """The first one alone writes the weights; the other must not wait for it."""
    options = tiny_options(root, steps=4, micro_batch_size=2, save_every=2)
    save_train_options(options, tmp_path / "options.yaml")
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK_FOR_ONE)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    command += ["train", str(tmp_path / "options.yaml"), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["state"] == "failed" and "make room" in facts["reason"]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
