"""A scan: recordings through a listener into the journal, in shared batches, stoppable at any moment."""

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from naturelm.scan.finding import Found, grouped
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Kind, Listener, Listening, OutOfMemory, Prepared, Said
from naturelm.scan.options import CutOptions, ScanError, Shard
from naturelm.scan.reading import Closed, GroupEnd, Opened, Piece, ahead, batches, read_groups
from naturelm.scan.table import RecordingFacts, ScoreWriter


@dataclass(frozen=True)
class Progress:
    """How far a scan has come.

    recordings: finished in this run; size: bytes of theirs, and of the one at work as far as it has come;
    of_recordings, of_size: to be done in this run.
    seconds: of sound, listened to or skipped, in this run; elapsed: s since the run began.
    """

    recordings: int
    of_recordings: int
    size: int
    of_size: int
    seconds: float
    elapsed: float


@dataclass(frozen=True)
class ScanReport:
    """What one run did.

    done, failed: recordings; earlier: those that were finished before. windows: of this run, and unheard of them
    gated or silent. seconds: of sound. elapsed: s. interrupted: whether it was asked to stop before the end.
    complete: whether every recording of all parts is now accounted for.
    """

    done: int
    failed: int
    earlier: int
    windows: int
    unheard: int
    seconds: float
    elapsed: float
    interrupted: bool
    complete: bool


def scan_parameters(listener: Listener, cut: CutOptions) -> dict[str, Any]:
    """All that the scores follow from, but the recordings."""
    version = importlib.metadata.version("naturelm")
    return {"naturelm": version, **listener.identity, "sample_rate": listener.sample_rate, **asdict(cut)}


def scan_recordings(
    recordings: Sequence[Found],
    listener: Listener,
    cut: CutOptions,
    folder: Path,
    *,
    fresh: bool = False,
    batch_size: int | None = None,
    shard: Shard | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """Scan what is not finished yet of the recordings, into the journal in `folder`.

    batch_size: windows at once, at first; default: as suits the listener. shard: the part to do, all by default.
    stop: asked now and then; once it says yes, the recording that is being read is finished and no other begun.
    progress: called after each batch.

    Raises ScanError: other parameters than those that the scan was begun with (unless `fresh`), another process
    at it, a folder that cannot be written to, a window that does not fit into memory.
    """
    shard = shard or Shard()
    check_window(listener, cut)
    journal = Journal(folder)
    labels = [dict(vars(label)) for label in listener.labels]
    with journal.held(shard):
        size = batch_size or listener.batch_size
        size = journal.claim(scan_parameters(listener, cut), labels, size, fresh=fresh)
        groups = grouped(recordings)[shard.index - 1 :: shard.count]
        report = scan_groups(groups, listener, cut, journal, size, stop=stop, progress=progress)
        journal.forget_missing(recordings)
    return replace(report, complete=all(map(journal.accounts_for, recordings)))


def check_window(listener: Listener, cut: CutOptions) -> None:
    """ScanError where the listener cannot take windows so long."""
    if cut.window > listener.longest_window:
        raise ScanError(
            f"--window: {cut.window:g} s, but {listener.name} takes at most {listener.longest_window:g} s at once"
        )


def scan_groups(
    groups: Sequence[tuple[Found, ...]],
    listener: Listener,
    cut: CutOptions,
    journal: Journal,
    batch_size: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """Scan what is missing of some groups into a journal that is claimed and held; arguments as in `scan_recordings`."""
    try:
        return _Run(journal, Listening(listener, batch_size), batch_size, groups, stop, progress).go(cut)
    except OSError as error:
        raise ScanError(
            f"{error.filename or journal.folder}: {error.strerror or error}; mend this, and run the same command again "
            "to go on"
        ) from error


class _Run:
    """One run over the groups of one part."""

    def __init__(
        self,
        journal: Journal,
        listening: Listening,
        batch_size: int,
        groups: Sequence[tuple[Found, ...]],
        stop: Callable[[], bool],
        progress: Callable[[Progress], None],
    ) -> None:
        self._journal = journal
        self._listening = listening
        self._batch_size = batch_size
        self._stop = stop
        self._progress = progress
        missing = [tuple(r for r in group if not journal.is_done(r)) for group in groups]
        self._missing = {recording for group in missing for recording in group}
        self._earlier = sum(map(len, groups)) - len(self._missing)
        # Where the batch has a say in the last digits, a group that was not finished is heard whole once more.
        alike = listening.listener.alike
        self._groups = [m if alike else g for g, m in zip(groups, missing, strict=True) if m]
        self._current: _Open | None = None
        self._began = time.monotonic()
        self._done = self._failed = self._windows = self._unheard = self._size = 0
        self._of_size = sum(max(recording.size, 0) for recording in self._missing)
        self._seconds = 0.0

    def go(self, cut: CutOptions) -> ScanReport:
        """Do it: one thread reads, one makes ready, and this one listens and writes down."""
        stopping = self._stop()
        items = read_groups([] if stopping else self._groups, cut, self._listening.listener.sample_rate)
        try:
            with (
                ahead(items, 2 * self._batch_size + 2) as read,
                ahead(self._prepared(read), 1, "preparing") as batches_ready,
            ):
                for batch, prepared in batches_ready:
                    said = iter(self._listening.listen(prepared))
                    for item in batch:
                        self._take(item, said)
                        if stopping and self._current is None:
                            break
                    self._report()
                    stopping = stopping or self._stop()
                    if stopping and self._current is None:
                        break
        except OutOfMemory as error:
            raise ScanError(
                f"{error}; not even one window fits into memory: ask for shorter ones (--window), or use another --device"
            ) from error
        finally:
            if self._current is not None:
                self._current.discard()
        return ScanReport(
            done=self._done,
            failed=self._failed,
            earlier=self._earlier,
            windows=self._windows,
            unheard=self._unheard,
            seconds=self._seconds,
            elapsed=time.monotonic() - self._began,
            interrupted=stopping,
            complete=False,
        )

    def _prepared(
        self, items: Iterator[Opened | Piece | Closed | GroupEnd]
    ) -> Iterator[tuple[list[Opened | Piece | Closed], list[Prepared]]]:
        for batch in batches(items, self._batch_size):
            heard = [i.samples for i in batch if isinstance(i, Piece) and i.unheard is None]
            yield batch, self._listening.prepare(heard)

    def _take(self, item: Opened | Piece | Closed, said: Iterator[tuple[Said, ...]]) -> None:
        """Write one item down; said: of the windows that are still to come."""
        current = self._current
        if isinstance(item, Opened):
            self._current = _Open(item, self._journal if item.recording in self._missing else None)
        elif isinstance(item, Closed):
            if current is None:
                self._fail(item)  # it could not even be opened
            else:
                self._close(current, item)
            self._current = None
        elif current is not None:
            current.windows += 1
            current.seconds = item.end
            if item.unheard is not None:
                current.unheard += 1
                current.skip(item, item.unheard)
            else:
                current.add(item, next(said))
            self._seconds += item.end - item.start

    def _close(self, opened: "_Open", closed: Closed) -> None:
        if opened.windows == 0:
            opened.discard()
            self._fail(closed)
        elif opened.writer is not None:
            found, header = opened.opened.recording, opened.opened
            facts = RecordingFacts(
                path=found.path,
                folder=found.folder,
                size=found.size,
                modified=found.modified,
                sample_rate=header.sample_rate,
                channels=header.channels,
                # A file that breaks off is as long as what can be read of it.
                duration=opened.seconds if header.duration is None or closed.failure else header.duration,
                seconds=opened.seconds,
                windows=opened.windows,
                unheard=opened.unheard,
                header_time=header.header_time,
                failure=closed.failure,
            )
            self._journal.finish(found, opened.writer, facts)
            opened.writer = None
            self._done += not closed.failure
            self._failed += bool(closed.failure)
            self._windows += opened.windows
            self._unheard += opened.unheard
            self._size += max(found.size, 0)

    def _fail(self, item: Closed) -> None:
        if item.recording in self._missing:
            self._journal.fail(item.recording, item.failure)
            self._failed += 1
            self._size += max(item.recording.size, 0)

    def _report(self) -> None:
        self._progress(
            Progress(
                recordings=self._done + self._failed,
                of_recordings=len(self._missing),
                size=self._size + (0 if self._current is None else self._current.bytes_done),
                of_size=self._of_size,
                seconds=self._seconds,
                elapsed=time.monotonic() - self._began,
            )
        )


class _Open:
    """A recording that is being scanned. journal: None where it is only heard for its batch's sake."""

    def __init__(self, opened: Opened, journal: Journal | None) -> None:
        self.opened = opened
        self.windows = self.unheard = 0
        self.seconds = 0.0
        self.writer: ScoreWriter | None = None if journal is None else journal.writer(opened.recording)

    @property
    def bytes_done(self) -> int:
        """Its share of bytes up to here, if its length is known and it counts."""
        duration = self.opened.duration
        if self.writer is None or not duration:
            return 0
        return round(max(self.opened.recording.size, 0) * min(1.0, self.seconds / duration))

    def add(self, piece: Piece, said: Any) -> None:
        if self.writer is not None:
            self.writer.add(piece.index, piece.start, piece.end, said)

    def skip(self, piece: Piece, kind: Kind) -> None:
        if self.writer is not None:
            self.writer.skip(piece.index, piece.start, piece.end, kind)

    def discard(self) -> None:
        if self.writer is not None:
            self.writer.discard()
            self.writer = None
