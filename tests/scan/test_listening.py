"""NatureLM as a scan's engine: what is made ahead changes nothing, and batches shrink until memory suffices."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scanning import rows, scan, write_recording

from naturelm.answer.results import Answer, Clip, GenerationOptions, Query
from naturelm.scan.naturelm_listener import NatureLMListener
from naturelm.scan.options import CutOptions, ScanError, parse_labels
from tiny import tiny_naturelm

CUT = CutOptions(5.0)


class Unprepared(NatureLMListener):
    """Leaves the filter bank to the model."""

    def prepare(self, windows: Sequence[np.ndarray]) -> list[Clip]:
        return [Clip(samples, end=len(samples) / self.sample_rate) for samples in windows]


def listener(kind: type[NatureLMListener] = NatureLMListener) -> NatureLMListener:
    return kind(
        tiny_naturelm(), parse_labels(("Dog", "Cat")), ("What?",), GenerationOptions(max_new_tokens=3)
    )


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    write_recording(tmp_path / "in" / "a.wav", 52)
    write_recording(tmp_path / "in" / "b.wav", 33, seed=1)
    return tmp_path / "in"


def test_the_filter_bank_is_made_ahead_in_another_thread_with_the_same_scores(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = listener()
    threads: list[str] = []
    ear = ahead._model.model.ear
    make = ear.normalised_fbank

    def noted(values: torch.Tensor) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        return make(values)

    monkeypatch.setattr(ear, "normalised_fbank", noted)
    scan(tmp_path / "ahead", recordings, listener=ahead, cut=CUT)  # type: ignore[arg-type]
    assert len(threads) >= 3 and set(threads) == {"preparing"}
    scan(tmp_path / "plain", recordings, listener=listener(Unprepared), cut=CUT)  # type: ignore[arg-type]
    assert rows(tmp_path / "ahead") == rows(tmp_path / "plain")


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["answer", "prepare"])
def test_without_memory_the_batch_is_halved(
    error: Exception, where: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = listener()
    sizes: list[int] = []
    do = getattr(small._model, where)
    each = 3 if where == "answer" else 1  # a window has its labels and its question

    def limited(given: Sequence[Any], *options: Any) -> Any:
        if len({id(q.clips[0]) if isinstance(q, Query) else id(q) for q in given}) > 3:
            raise error
        sizes.append(len(given))
        return do(given, *options)

    monkeypatch.setattr(small._model, where, limited)
    report = scan(tmp_path / "small", recordings, listener=small, cut=CUT)  # type: ignore[arg-type]
    assert report.windows == 18 and report.failed == 0
    assert max(sizes) <= 3 * each and sum(sizes) >= 18
    scan(tmp_path / "whole", recordings, listener=listener(), cut=CUT)  # type: ignore[arg-type]
    for found, wanted in zip(rows(tmp_path / "small"), rows(tmp_path / "whole"), strict=True):
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-4)
        assert (found["start"], found["label"]) == (wanted["start"], wanted["label"])


def test_other_errors_are_not_taken_for_want_of_memory(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = listener()

    def fail(*_: Any) -> list[Answer]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(broken._model, "answer", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        scan(tmp_path / "out", recordings, listener=broken, cut=CUT)  # type: ignore[arg-type]


def test_not_even_one_window_fits(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = listener()

    def fail(*_: Any) -> list[Answer]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(none._model, "answer", fail)
    with pytest.raises(ScanError, match="not even one window fits"):
        scan(tmp_path / "out", recordings, listener=none, cut=CUT)  # type: ignore[arg-type]
    assert not list((tmp_path / "out").rglob("*.tmp"))
