"""A system through a suite: sound is loaded ahead, rows go in batches of like length, answers into the journal."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from naturelm.bench.models.base import BenchItem, BenchModel
from naturelm.bench.running.asking import Outcome, PatientAsker
from naturelm.bench.running.journal import Journal, RunError, line_of
from naturelm.bench.suites.suite import Suite, SuiteRow
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import AudioError, NatureLMError

_BATCHES_OF_A_WINDOW = 4
"""Rows are sorted by length within a window; more make batches more alike, and keep more sound in memory."""
_WINDOWS_AHEAD = 1

Asked = tuple[SuiteRow, str]
"""A row and the question that is put."""
Heard = tuple[FloatArray, int] | AudioError


@dataclass(frozen=True)
class RunOptions:
    """How a system is asked."""

    batch_size: int = 32
    time_limit: float | None = None
    """Seconds for the answers to a batch; None for what its size needs."""

    def __post_init__(self) -> None:
        """Raises RunError for a value that makes no sense."""
        if self.batch_size < 1:
            raise RunError(f"a batch has 1 row or more, not {self.batch_size}")
        if not 0 < self.seconds < float("inf"):
            raise RunError(f"the time limit is a number of seconds above 0, not {self.seconds:g}")

    @property
    def seconds(self) -> float:
        """For the answers to a batch: 20 a row and at least ten minutes, unless a limit is given."""
        return max(600.0, 20.0 * self.batch_size) if self.time_limit is None else self.time_limit


@dataclass(frozen=True)
class RunCount:
    """What one pass did."""

    rows: int
    """In the journal, now."""
    asked: int
    """Of these, by this call."""
    failed: int
    """Of those, without an answer."""
    seconds: float
    waiting: float
    """Seconds in which the system waited for sound."""


def ask_rows(
    model: BenchModel,
    suite: Suite,
    asked: Sequence[Asked],
    journal_path: Path,
    options: RunOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunCount:
    """Ask what the journal does not have yet, and add it there.

    asked: rows of the suite, in its order. progress: told how many rows of how many are done. Raises RunError where the
    journal is of other rows or cannot be written, SuiteError where the data cannot be read, HangingError where the
    system has stopped answering.
    """
    size = _BATCHES_OF_A_WINDOW * options.batch_size
    windows = [asked[first : first + size] for first in range(0, len(asked), size)]
    journal = Journal(journal_path)
    done = journal.open([[row for row, _ in window] for window in windows], options.batch_size)
    first_window, within = divmod(done, size)
    asker = PatientAsker(model, time_limit=options.seconds)
    began, before, failed, waiting = time.monotonic(), done, 0, 0.0
    progress(done, len(asked))
    if done == len(asked):
        journal.close()
        return RunCount(done, 0, 0, 0.0, 0.0)
    with _Loader(suite, windows[first_window:]) as loader:
        try:
            while True:
                waited = time.monotonic()
                heard = loader.next()
                waiting += time.monotonic() - waited
                if heard is None:
                    break
                for batch in _batches(heard, options.batch_size)[within // options.batch_size :]:
                    outcomes = _ask(asker, suite, batch)
                    journal.append(
                        [
                            line_of(row, prompt, of)
                            for ((row, prompt), _), of in zip(batch, outcomes, strict=True)
                        ]
                    )
                    failed += sum(bool(of.error) for of in outcomes)
                    done += len(batch)
                    progress(done, len(asked))
                within = 0
        finally:
            journal.close()
    return RunCount(done, done - before, failed, time.monotonic() - began, waiting)


def _batches(heard: Sequence[tuple[Asked, Heard]], size: int) -> list[list[tuple[Asked, Heard]]]:
    """Rows of a window in batches of like rate, closed set and length; what could not be read comes first."""

    def shape(of: tuple[Asked, Heard]) -> tuple[int, str, int]:
        sound = of[1]
        name = of[0][0].dataset_name
        return (0, name, 0) if isinstance(sound, AudioError) else (sound[1], name, len(sound[0]))

    ordered = sorted(heard, key=shape)  # stable, so the same every time
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def _ask(asker: PatientAsker, suite: Suite, batch: Sequence[tuple[Asked, Heard]]) -> list[Outcome]:
    outcomes: list[Outcome | None] = []
    items = []
    for (row, prompt), sound in batch:
        if isinstance(sound, AudioError):
            outcomes.append(Outcome(error=str(sound)))
            continue
        outcomes.append(None)
        items.append(
            BenchItem(
                id=f"{row.dataset_name}/{row.id}",
                dataset_name=row.dataset_name,
                task=row.task,
                prompt=prompt,
                waveform=sound[0],
                sample_rate=sound[1],
                labels=suite.closed_set(row),
            )
        )
    answered = iter(asker.ask(items) if items else ())
    return [next(answered) if outcome is None else outcome for outcome in outcomes]


class _Loader:
    """Reads and decodes the sound of the windows to come in a thread of its own."""

    def __init__(self, suite: Suite, windows: Sequence[Sequence[Asked]]) -> None:
        self._suite = suite
        self._windows = windows
        self._ready: queue.Queue[list[tuple[Asked, Heard]] | NatureLMError | None] = queue.Queue(
            _WINDOWS_AHEAD
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._load, daemon=True)

    def __enter__(self) -> "_Loader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def next(self) -> list[tuple[Asked, Heard]] | None:
        """The next window; None after the last. Raises what reading it raised."""
        window = self._ready.get()
        if isinstance(window, NatureLMError):
            raise window
        return window

    def _load(self) -> None:
        try:
            for window in self._heard():
                if not self._give(window):
                    return
            self._give(None)
        except NatureLMError as error:
            self._give(error)
        except Exception as error:  # else `next` would wait for ever
            self._give(
                RunError(f"{self._suite.files.name}: reading failed ({type(error).__name__}: {error})")
            )

    def _heard(self) -> Iterator[list[tuple[Asked, Heard]]]:
        sounds = self._suite.sounds([row for window in self._windows for row, _ in window])
        for window in self._windows:
            yield [(asked, next(sounds)[1]) for asked in window]

    def _give(self, window: list[tuple[Asked, Heard]] | NatureLMError | None) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put(window, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
