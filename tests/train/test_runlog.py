"""Facts and log of a run: whole after a kill, a full disk and a resumption, and refused when they are not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naturelm.train.options import TrainError
from naturelm.train.runlog import (
    FACTS,
    LOG,
    CorpusFacts,
    Gpu,
    Hardware,
    Resumption,
    RunFacts,
    RunLog,
    hardware,
    read_facts,
    read_log,
    utc_now,
    versions,
    write_facts,
)

SOME_FACTS = RunFacts(
    name="mini-stage2",
    started="2025-03-01T12:00:00+00:00",
    command=("naturelm", "train", "mini-stage2"),
    processes=2,
    hardware=Hardware("A processor", 4, 16_000_000_000, (Gpu("A card", 80_000_000_000),)),
    versions={"naturelm": "0.1.0"},
    corpora=(CorpusFacts("starter", "ab12", 24_000),),
    planned_steps={"warm-up": 400, "answers": 2000},
    task_shares={"caption": 0.25, "count": 0.75},
    resumed=(Resumption("2025-03-01T13:00:00+00:00", "answers", 500),),
)


def step(number: int, *, phase: str = "answers", **values: object) -> dict[str, object]:
    return {"kind": "step", "phase": phase, "step": number, **values}


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    lines = [step(10, loss=1.5, tasks={"caption": {"loss": 1.5, "pairs": 3}}), step(20, loss=1.0)]
    for line in lines:
        RunLog(tmp_path).append(line)
    assert read_log(tmp_path) == lines


def test_a_run_that_has_logged_nothing_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    RunLog(tmp_path).append(
        step(1, loss=math.nan, tasks={"a": {"loss": np.float32("inf")}}, rates=[-math.inf])
    )
    text = (tmp_path / LOG).read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_log(tmp_path) == [step(1, loss=None, tasks={"a": {"loss": None}}, rates=[None])]


def test_numbers_of_numpy_and_any_text_are_logged(tmp_path: Path) -> None:
    RunLog(tmp_path).append(
        step(1, loss=np.float32(0.5), pairs=np.int64(3), written="owl\n\ud800 ü", ok=True)
    )
    assert read_log(tmp_path) == [step(1, loss=0.5, pairs=3, written="owl\n\ud800 ü", ok=True)]


@settings(deadline=None, max_examples=50)  # files are written
@given(st.data())
def test_a_log_that_is_cut_anywhere_is_read_and_continued(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    lines = [step(number, text="ö" * number) for number in range(1, 5)]
    for line in lines:
        RunLog(folder).append(line)
    whole = (folder / LOG).read_bytes()
    kept = data.draw(st.integers(0, len(whole)))
    (folder / LOG).write_bytes(whole[:kept])
    left = lines[: whole[:kept].count(b"\n")]
    assert read_log(folder) == left
    RunLog(folder).append(step(9))
    assert read_log(folder) == [*left, step(9)]


def test_of_steps_that_were_taken_twice_the_later_counts(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for number, loss in ((10, 3.0), (20, 2.0), (30, 1.0), (20, 2.5)):
        log.append(step(number, loss=loss))
    log.append({**step(20), "kind": "evaluation"})
    log.append(step(20, phase="warm-up", loss=9.0))
    assert read_log(tmp_path) == [
        step(10, loss=3.0),
        step(20, loss=2.5),
        step(30, loss=1.0),
        {**step(20), "kind": "evaluation"},
        step(20, phase="warm-up", loss=9.0),
    ]


@pytest.mark.parametrize(
    "broken",
    ['{"kind": "st', "[1]", "", "{}", '{"kind": "step", "phase": "answers", "step": "1"}', "[" * 100_000],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: str) -> None:
    (tmp_path / LOG).write_text(f"{json.dumps(step(1))}\n{broken}\n{json.dumps(step(3))}\n")
    with pytest.raises(TrainError, match=f"{LOG}: line 2 "):
        read_log(tmp_path)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(TrainError, match=rf"{LOG}: cannot be written"):
        RunLog(tmp_path).append(step(1))
    with pytest.raises(TrainError, match=rf"{LOG}: cannot be read"):
        read_log(tmp_path)


def test_a_disk_that_was_full_leaves_no_broken_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    log = RunLog(tmp_path)
    log.append(step(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / LOG).stat().st_size + 5, hard))
    try:
        with pytest.raises(TrainError, match=f"{LOG}: cannot be written .*make room"):
            log.append(step(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / LOG).read_bytes().endswith(b"\n")
    log.append(step(3))
    assert read_log(tmp_path) == [step(1), step(3)]


def test_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_facts(tmp_path, SOME_FACTS)
    assert read_facts(tmp_path) == SOME_FACTS
    failed = replace(SOME_FACTS, state="failed", finished=utc_now(), reason="the loss is not a number")
    write_facts(tmp_path, failed)
    assert read_facts(tmp_path) == failed
    assert [path.name for path in tmp_path.iterdir()] == [FACTS]


def test_a_folder_without_facts_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TrainError, match="give the folder of a training run"):
            read_facts(folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not readable"),
        ("\xff", "not readable"),
        ("[" * 100_000, "not readable"),
        ("[]", "not the facts of a run"),
        ('{"name": "x"}', "started"),
    ],
)
def test_facts_that_are_damaged_are_told(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / FACTS).write_text(text, encoding="latin-1")
    with pytest.raises(TrainError, match=rf"{FACTS}.*{why}"):
        read_facts(tmp_path)


def test_a_state_that_there_is_not_is_told(tmp_path: Path) -> None:
    write_facts(tmp_path, SOME_FACTS)
    path = tmp_path / FACTS
    path.write_text(path.read_text().replace('"running"', '"sleeping"'))
    with pytest.raises(TrainError, match="state"):
        read_facts(tmp_path)


def test_facts_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="cannot be written"):
        write_facts(tmp_path / "nowhere", SOME_FACTS)


def test_the_machine_and_the_software_are_described(tmp_path: Path) -> None:
    found = hardware()
    assert found.cpu and found.cores >= 1
    assert found.memory is None or found.memory > 1e8
    assert {"python", "torch", "transformers", "naturelm"} <= versions().keys()
    write_facts(tmp_path, replace(SOME_FACTS, hardware=found, versions=versions()))
    assert read_facts(tmp_path).hardware == found
