"""Recordings to windows, in a thread of its own, so that decoding goes on while the model listens."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from naturelm.audio import audio_info, iter_windows
from naturelm.audio.sources import FloatArray, open_recording
from naturelm.errors import AudioError
from naturelm.scan.finding import Found, look_at
from naturelm.scan.listening import Kind
from naturelm.scan.options import CutOptions
from naturelm.scan.times import header_time

Item = TypeVar("Item")

_MIN_SECONDS = 0.01
_BLOCK_SECONDS = 1.0  # what may be lost before a damaged place


@dataclass(frozen=True)
class Opened:
    """A recording begins. sample_rate: Hz. duration: s, by the header, if it says. header_time: ISO 8601, or ""."""

    recording: Found
    sample_rate: int
    channels: int
    duration: float | None
    header_time: str


@dataclass(frozen=True, eq=False)
class Piece:
    """A window. start, end: s; unheard: why it need not be listened to, or None. samples: mono, its sound alone."""

    index: int
    start: float
    end: float
    samples: FloatArray
    unheard: Kind | None


@dataclass(frozen=True)
class Closed:
    """A recording ends; failure: why before its end, or ""."""

    recording: Found
    failure: str


@dataclass(frozen=True)
class GroupEnd:
    """No later window goes into a batch with an earlier one."""


def read_groups(
    groups: Iterable[tuple[Found, ...]], cut: CutOptions, sample_rate: int
) -> Iterator[Opened | Piece | Closed | GroupEnd]:
    """The windows of all recordings at `sample_rate` Hz, group after group; nothing is raised for a bad one."""
    for group in groups:
        for recording in group:
            try:
                yield from _read(recording, cut, sample_rate)
            except AudioError as error:
                yield Closed(recording, str(error))
            else:
                yield Closed(recording, _changed(recording))
        yield GroupEnd()


def _changed(recording: Found) -> str:
    """Why what was heard may not be what is there now; "" if it is."""
    if recording.size < 0 or look_at(recording.path, recording.folder) == recording:
        return ""
    # Such as one that a recorder, or a copy to the disk, has not finished yet.
    return f"{recording.path}: was changed after the scan had begun; run the same command again"


def _read(recording: Found, cut: CutOptions, sample_rate: int) -> Iterator[Opened | Piece]:
    path = Path(recording.path)
    with open_recording(path, sample_rate) as header:
        rate, channels, frames = header.sample_rate, header.channels, header.frames
    end = cut.end
    if end is not None:
        seconds = audio_info(path).duration if frames is None else frames / rate
        end = None if end > seconds else end
    duration = None if frames is None else frames / rate
    yield Opened(recording, rate, channels, duration, header_time(path))
    windows = iter_windows(
        path,
        cut.spec,
        sample_rate=sample_rate,
        channel=cut.channel,
        start=cut.start,
        end=end,
        block_seconds=_BLOCK_SECONDS,
    )
    for window in windows:
        samples = window.samples[: window.num_samples]
        if window.index == 0 and len(samples) < _MIN_SECONDS * sample_rate:
            raise AudioError(
                f"{recording.path}: {1000 * len(samples) / sample_rate:.1f} ms of sound; at least 10 ms are needed"
            )
        unheard = _unheard(samples, cut.gate_db)
        # Hours of silence may wait for a batch to fill: without their samples.
        yield Piece(
            window.index,
            window.start,
            window.end,
            samples if unheard is None else samples[:0].copy(),
            unheard,
        )


def _unheard(samples: FloatArray, gate_db: float | None) -> Kind | None:
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if power == 0:
        return Kind.SILENT
    if gate_db is not None and 10 * np.log10(power) < gate_db:
        return Kind.GATED
    return None


def batches(
    items: Iterable[Opened | Piece | Closed | GroupEnd], size: int
) -> Iterator[list[Opened | Piece | Closed]]:
    """The items, in order, in lists with at most `size` windows to listen to, of one group each."""
    waiting: list[Opened | Piece | Closed] = []
    heard = 0
    for item in items:
        if not isinstance(item, GroupEnd):
            waiting.append(item)
            heard += isinstance(item, Piece) and item.unheard is None
        # Where there is nothing to listen to, nothing is waited for.
        if waiting and (isinstance(item, GroupEnd) or heard == size or (heard == 0 and len(waiting) >= size)):
            yield waiting
            waiting, heard = [], 0
    if waiting:
        yield waiting


class _Failure(Generic[Item]):
    def __init__(self, error: BaseException) -> None:
        self.error = error


@contextmanager
def ahead(items: Iterator[Item], most: int, name: str = "decoding") -> Iterator[Iterator[Item]]:
    """The items, made in another thread, at most so many before they are taken; the thread ends with the block."""
    waiting: queue.Queue[Item | _Failure[Item] | None] = queue.Queue(maxsize=most)
    stopped = threading.Event()

    def put(item: Item | _Failure[Item] | None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(_Failure(error))

    def take() -> Iterator[Item]:
        while (item := waiting.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item

    thread = threading.Thread(target=make, name=name, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()
