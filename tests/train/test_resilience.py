"""Runs that are stopped, killed or broken: what is left, and that they go on as if nothing had been."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from training import WARM_UP, kind_pair, losses, tiny_options

from naturelm.errors import CheckpointError
from naturelm.model.loading import load_model
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.train.checkpoints import list_checkpoints
from naturelm.train.options import TrainError, save_train_options
from naturelm.train.run import train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resilience")


def steps_of(run: Path, phase: str = "answers") -> list[int]:
    return [each.step for each in list_checkpoints(run / "checkpoints") if each.phase == phase]


def assert_same_end(one: Path, other: Path) -> None:
    """The same losses and weights, to what float32 keeps on a CPU."""
    for phase in ("warm-up", "answers"):
        first, second = losses(one, phase), losses(other, phase)
        assert first.keys() == second.keys()
        assert all(abs(first[step] - second[step]) < 1e-5 for step in first)
    before, after = load_model(one / "model").state_dict(), load_model(other / "model").state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


def with_dropout(root: Path, **changes: object):
    """A run whose dropout makes every step depend on the random state; checkpoints every second step."""
    warm_up = replace(WARM_UP, colouring_db=6.0, keep_features=True)
    options = tiny_options(root, steps=8, warm_up=warm_up, save_every=2, **changes)
    model = replace(options.model, audio={**options.model.audio, "dropout": 0.1})
    return replace(options, model=model)


def start(options_file: Path, run: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "naturelm", "train", str(options_file), "--out", str(run), *more]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[bytes], run: Path, phase: str, step: int) -> None:
    """Until the run has logged that step."""
    for _ in range(4000):
        if (run / "log.jsonl").exists():
            text = (run / "log.jsonl").read_text()
            for line in text.splitlines()[:-1] if not text.endswith("\n") else text.splitlines():
                logged = json.loads(line)
                if logged["phase"] == phase and logged["step"] >= step:
                    return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.02)
    raise AssertionError("the run does not get there")


def test_killed_and_resumed_is_as_never_killed(root: Path, tmp_path: Path) -> None:
    options = with_dropout(root)
    train(options, tmp_path / "unbroken")

    save_train_options(options, tmp_path / "options.yaml")
    process = start(tmp_path / "options.yaml", tmp_path / "run")
    wait_for(process, tmp_path / "run", "answers", 3)
    process.kill()
    process.wait()
    killed_at = steps_of(tmp_path / "run")
    assert killed_at
    assert not (tmp_path / "run" / "model").exists()

    report = train(options, tmp_path / "run", resume=True)
    assert (report.state, report.steps) == ("finished", 8)
    assert_same_end(tmp_path / "unbroken", tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [(each["phase"], each["step"]) for each in facts["resumed"]] == [("answers", killed_at[-1])]


@pytest.mark.parametrize("last", ["warm-up-000002", "warm-up-000006", "answers-000002"])
def test_a_run_goes_on_from_any_checkpoint(root: Path, tmp_path: Path, last: str) -> None:
    options = with_dropout(root, keep=100)
    train(options, tmp_path / "unbroken")
    shutil.copytree(tmp_path / "unbroken", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints"):
        if checkpoint > next(
            c for c in list_checkpoints(tmp_path / "unbroken" / "checkpoints") if c.folder.name == last
        ):
            shutil.rmtree(checkpoint.folder)
    (tmp_path / "run" / "checkpoints" / ".saving").mkdir()
    (tmp_path / "run" / "checkpoints" / ".saving" / "half").write_text("half written")

    assert train(options, tmp_path / "run", resume=True).state == "finished"
    assert_same_end(tmp_path / "unbroken", tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / ".saving").exists()


@pytest.mark.slow
def test_sigterm_to_all_processes_saves_and_stops(root: Path, tmp_path: Path) -> None:
    options = replace(with_dropout(root), steps=2000, save_every=1900, workers=1)
    save_train_options(options, tmp_path / "options.yaml")
    process = start(tmp_path / "options.yaml", tmp_path / "run", "--json")
    wait_for(process, tmp_path / "run", "answers", 3)
    os.killpg(process.pid, signal.SIGTERM)  # loaders as well, as torchrun and batch systems do it
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert json.loads(out.splitlines()[-1])["state"] == "stopped"
    (saved,) = steps_of(tmp_path / "run")
    assert saved == max(losses(tmp_path / "run")) >= 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "stopped"
    load_model(list_checkpoints(tmp_path / "run" / "checkpoints")[-1].folder)


def test_a_run_that_started_from_another_goes_on(root: Path, tmp_path: Path) -> None:
    first = tiny_options(root, steps=2)
    train(first, tmp_path / "first")
    model = replace(first.model, start=str(tmp_path / "first"))
    options = replace(first, model=model, steps=6, save_every=3, keep=9)
    train(options, tmp_path / "unbroken")
    shutil.copytree(tmp_path / "unbroken", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "answers-000006")

    assert train(options, tmp_path / "run", resume=True).state == "finished"
    assert_same_end(tmp_path / "unbroken", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines]
    assert seconds[-1] > seconds[2] > 0


def test_a_run_does_not_go_on_with_another_corpus(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=2)
    train(options, tmp_path / "run")
    other = write_corpus(tmp_path / "other", [kind_pair(number) for number in range(40)])
    with pytest.raises(TrainError, match="corpus"):
        train(replace(options, corpus=(other,)), tmp_path / "run", resume=True)
    moved = shutil.copytree(options.corpus[0], tmp_path / "moved")
    assert train(replace(options, corpus=(moved,)), tmp_path / "run", resume=True).state == "finished"


def test_a_run_in_its_warm_up_is_nothing_to_start_from(root: Path, tmp_path: Path) -> None:
    options = with_dropout(root)
    train(options, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints"):
        if checkpoint.phase == "answers":
            shutil.rmtree(checkpoint.folder)
    (tmp_path / "run" / "checkpoints" / "warm-up-000006").mkdir(exist_ok=True)
    model = replace(options.model, start=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="main phase"):
        train(replace(options, model=model, warm_up=None), tmp_path / "other")


def test_checkpoints_are_kept_so_deep(root: Path, tmp_path: Path) -> None:
    train(tiny_options(root, steps=7, save_every=2, keep=2), tmp_path / "run")
    assert steps_of(tmp_path / "run") == [6, 7]


def test_a_loss_that_is_no_number_stops_before_the_weights_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = NatureLMForConditionalGeneration.forward
    calls = 0

    def breaking(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        output = forward(self, *args, **kwargs)
        output.loss = output.loss * (float("nan") if calls == 4 else 1.0)
        return output

    monkeypatch.setattr(NatureLMForConditionalGeneration, "forward", breaking)
    report = train(tiny_options(root), tmp_path / "run")

    assert report.state == "failed"
    assert "step 4" in report.reason
    assert "learning_rate" in report.reason
    assert json.loads((tmp_path / "run" / "run.json").read_text())["reason"] == report.reason
    assert steps_of(tmp_path / "run") == [3]
    weights = load_model(list_checkpoints(tmp_path / "run" / "checkpoints")[-1].folder).state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    monkeypatch.undo()
    assert train(tiny_options(root), tmp_path / "run", resume=True).state == "finished"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_cannot_be_read_stops_with_its_place(root: Path, tmp_path: Path, workers: int) -> None:
    pairs = [kind_pair(number) for number in range(48)]
    pairs[17] = replace(pairs[17], audio=b"no sound")
    write_corpus(tmp_path / "corpus", pairs)
    options = tiny_options(root, corpus=(tmp_path / "corpus",), steps=12, workers=workers)
    report = train(options, tmp_path / "run")

    assert report.state == "failed"
    assert str(tmp_path / "corpus") in report.reason
    assert "row 17" in report.reason
    assert "Traceback" not in report.reason
    done = max(losses(tmp_path / "run"), default=0)
    assert steps_of(tmp_path / "run") == ([done] if done else [])


def test_a_corrupt_shard_stops_with_its_name(root: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [kind_pair(number) for number in range(80)], shards=2)
    options = tiny_options(root, corpus=(corpus,), steps=10)
    shard = sorted((corpus / "data").glob("train-*"))[1]
    content = bytearray(shard.read_bytes())
    content[100 : len(content) // 2] = os.urandom(len(content) // 2 - 100)
    shard.write_bytes(bytes(content))
    try:
        report = train(options, tmp_path / "run")
    except Exception as error:
        assert shard.name in str(error)
    else:
        assert report.state == "failed"
        assert shard.name in report.reason or str(corpus) in report.reason


@contextmanager
def no_room_for(size: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_stops_and_leaves_the_last_checkpoint(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=4, save_every=2)
    train(options, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "answers-000004")
    shutil.rmtree(tmp_path / "run" / "model")
    with no_room_for(30_000):
        report = train(options, tmp_path / "run", resume=True)

    assert report.state == "failed"
    assert "make room" in report.reason
    assert steps_of(tmp_path / "run") == [2]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["answers-000002"]
    load_model(tmp_path / "run" / "checkpoints" / "answers-000002")
    assert train(options, tmp_path / "run", resume=True).state == "finished"


def test_a_log_that_cannot_grow_stops_with_a_checkpoint(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=4, save_every=2)
    train(options, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "answers-000004")
    shutil.rmtree(tmp_path / "run" / "model")
    # Checkpoints still fit, and the log does not.
    limit = 10_000_000
    filling = {"kind": "note", "phase": "answers", "step": 0, "text": ""}
    log = tmp_path / "run" / "log.jsonl"
    filling["text"] = " " * (limit - log.stat().st_size - len(json.dumps(filling)) - 10)
    with log.open("a") as file:
        file.write(json.dumps(filling) + "\n")
    with no_room_for(limit):
        report = train(options, tmp_path / "run", resume=True)

    assert report.state == "failed"
    assert "log.jsonl" in report.reason
    load_model(list_checkpoints(tmp_path / "run" / "checkpoints")[-1].folder)


def test_a_damaged_checkpoint_is_named(root: Path, tmp_path: Path) -> None:
    options = tiny_options(root, steps=2)
    train(options, tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "answers-000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    shutil.rmtree(tmp_path / "run" / "model")  # or the run would be finished
    with pytest.raises(TrainError, match="answers-000002"):
        train(options, tmp_path / "run", resume=True)
