"""A long recording to events, by the same scan as `naturelm scan`, so that its tables are the same bytes.

The scan has a thread of its own and takes turns with the queue at the model: before each of its batches, which are
short, it lets waiting questions go first. It ends at the next batch once nobody follows it any more.
"""

import asyncio
import logging
import math
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from naturelm.answer.engine import NatureLM
from naturelm.answer.results import Clip, Query
from naturelm.model.registry import DEFAULT_MODEL
from naturelm.scan.events import LEAST_OF_LABELS, Event, EventOptions, find_events
from naturelm.scan.export import ExportOptions, export, rows_of
from naturelm.scan.finding import find_recordings
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Said
from naturelm.scan.names import Format, Preset
from naturelm.scan.naturelm_listener import NatureLMListener
from naturelm.scan.options import PRESET_QUESTIONS, CutOptions, Label, parse_labels
from naturelm.scan.run import Progress, scan_recordings
from naturelm.serve.asking import Asker
from naturelm.serve.faults import Fault, RequestFault
from naturelm.serve.options import Limits
from naturelm.serve.web.asking import checked_labels, checked_text
from naturelm.serve.web.pictures import Painter
from naturelm.serve.web.uploads import Upload, check_length, in_page_words, page_words

log = logging.getLogger("naturelm.serve")

FORMATS = (Format.RAVEN, Format.AUDACITY, Format.CSV)
_LONGEST_YIELD = 1.0  # s that a batch waits for questions, so that the scan goes on under constant load, too
_MOST_WINDOWS = 20_000
_FOLLOWED = 30.0  # s without anybody taking the progress, after which a scan is given up
_TOLD_EVERY = 0.4


@dataclass(frozen=True)
class ScanWanted:
    """What to look for, and how. window, hop: s; None as the command line has it."""

    labels: tuple[Label, ...] = ()
    presets: tuple[Preset, ...] = ()
    question: str = ""
    window: float | None = None
    hop: float | None = None
    events: EventOptions = field(default_factory=EventOptions)

    @classmethod
    def checked(
        cls,
        labels: object,
        presets: object,
        question: object,
        window: object,
        hop: object,
        least: object,
        merge: object,
        limits: Limits,
    ) -> "ScanWanted":
        """From what the browser sends. RequestFault."""
        with in_page_words():
            written = checked_text(labels, "the list of labels", 10**6)
            return cls(
                labels=parse_labels(checked_labels(written, limits)) if written else (),
                presets=_presets(presets),
                question=checked_text(question, "the question", limits.question_chars),
                window=_number(window, "Window"),
                hop=_number(hop, "Hop") or None,
                events=EventOptions(
                    min_confidence=None if least == LEAST_OF_LABELS else _number(least, "Least confidence"),
                    merge=merge is True,
                ),
            )

    @property
    def questions(self) -> tuple[str, ...]:
        """Those to be answered freely, each once."""
        own = [self.question] if self.question else []
        return tuple(dict.fromkeys([PRESET_QUESTIONS[name] for name in self.presets] + own))

    def command(self, name: str, model: str) -> str:
        """The command line that gives the same tables."""
        words = ["naturelm", "scan", name if not name.startswith("-") else f"./{name}", "-o", "scan"]
        if model != DEFAULT_MODEL:
            words += ["--model", model]
        if self.labels:
            words += ["--detect", ",".join(_written(label) for label in self.labels)]
        for preset in self.presets:
            words += ["--preset", preset.value]
        if self.question:
            words += ["--ask", self.question]
        for option, value in (("--window", self.window), ("--hop", self.hop)):
            words += [] if value is None else [option, f"{value:g}"]
        least = self.events.min_confidence
        words += [] if least is None else ["--min-confidence", f"{least:g}"]
        words += ["--merge"] if self.events.merge else []
        words += ["--relative-paths", *(word for kind in FORMATS for word in ("--to", kind.value))]
        return shlex.join(words)


@dataclass(frozen=True)
class Scanned:
    """A finished scan. tables: files, by format. trouble: why not all of it could be read, or ""."""

    events: tuple[Event, ...]
    tables: dict[Format, Path]
    picture: str
    seconds: float
    windows: int
    elapsed: float
    trouble: str


@dataclass(frozen=True)
class Coming:
    """How far a scan has come. share: from 0 to 1."""

    share: float
    text: str


class PoliteListener(NatureLMListener):
    """Listens with the model of a queue, after those who wait there."""

    def __init__(self, asker: Asker, wanted: ScanWanted) -> None:
        # A sibling: the windows of a scan must not push what others ask about out of the cache.
        super().__init__(asker.model.sibling(), wanted.labels, wanted.questions)
        self._asker = asker

    def listen(self, prepared: Sequence[Clip]) -> list[tuple[Said, ...]]:
        """See `Listener.listen`."""
        until = time.monotonic() + _LONGEST_YIELD
        while self._asker.busy and time.monotonic() < until:
            time.sleep(0.01)
        return super().listen(prepared)


class Scans:
    """The scans of the page. folder: for what they write while they run."""

    def __init__(self, asker: Asker, limits: Limits, painter: Painter, folder: Path) -> None:
        self._asker = asker
        self._limits = limits
        self._painter = painter
        self._folder = folder
        self._running: dict[str, _Reins] = {}
        self._closing = False

    def stop(self, session: str) -> bool:
        """Stop the scan of a browser's page; whether there is one."""
        reins = self._running.get(session)
        if reins is not None:
            reins.stopped.set()
        return reins is not None

    def close(self) -> None:
        """Stop all scans, and begin none any more."""
        self._closing = True
        for reins in list(self._running.values()):
            reins.stopped.set()

    async def scan(self, upload: Upload, wanted: ScanWanted, session: str) -> AsyncIterator[Coming | Scanned]:
        """Scan an upload: how far it has come, now and then, and what came of it.

        The tables are there until the iterator goes on or is closed. RequestFault, also where it was stopped.
        """
        if self._closing or not self._asker.ready:
            raise RequestFault(Fault.STOPPING, "the server is stopping; scan again once it is back")
        if session in self._running:
            raise RequestFault(Fault.BUSY, "a scan runs in this page already; stop it, or wait for it")
        reins = self._running[session] = _Reins()
        place = Path(tempfile.mkdtemp(dir=self._folder))
        task = None
        try:
            yield Coming(0.0, f"Opening {upload.name}")
            task = asyncio.create_task(asyncio.to_thread(self._work, upload, wanted, place, reins))
            while not task.done():
                reins.followed = time.monotonic()
                yield reins.coming
                await asyncio.wait({task}, timeout=_TOLD_EVERY)
            yield task.result()
        finally:
            reins.stopped.set()
            del self._running[session]
            if task is None or task.done():
                shutil.rmtree(place, ignore_errors=True)
            else:
                task.add_done_callback(lambda _: shutil.rmtree(place, ignore_errors=True))

    # --- in the scan's own thread ---

    def _work(self, upload: Upload, wanted: ScanWanted, place: Path, reins: "_Reins") -> Scanned:
        length = check_length(upload, self._limits.recording_seconds, "cut it, or use `naturelm scan`")
        with in_page_words():
            listener = PoliteListener(self._asker, wanted)
            cut = CutOptions(listener.default_window if wanted.window is None else wanted.window, wanted.hop)
        self._check_cost(wanted, cut, length)
        path = place / upload.name
        _share_file(upload.path, path)

        def tell(progress: Progress) -> None:
            reins.check()
            speed = progress.seconds / max(progress.elapsed, 1e-3)
            # Overlapping windows count more than once.
            of = length * cut.window / (cut.hop or cut.window)
            share = min(progress.seconds / max(of, 1e-3), 1.0)
            left = progress.elapsed * (1 / share - 1) if share > 0 else math.nan
            text = f"{share * length:.0f} of {length:.0f} s, {speed:.0f} times real time, about {left:.0f} s left"
            reins.coming = Coming(share, f"Scanned {text}")

        with in_page_words(upload, path):
            out = place / "tables"
            report = scan_recordings(find_recordings([path]), listener, cut, out, progress=tell)
            reins.coming = Coming(1.0, "Drawing the timeline")
            reins.check()
            export(out, ExportOptions(events=wanted.events, formats=FORMATS, relative=True))
            journal = Journal(out)
            failures = journal.failures()
            if not journal.finished():
                raise RequestFault(Fault.BAD_AUDIO, page_words(failures[0].error, upload, path))
            events = tuple(
                event
                for _, scores in journal.finished()
                for event in find_events(rows_of(scores), wanted.events)
            )
            picture = ""
            trouble = " ".join(page_words(failed.error, upload, path) for failed in failures)
            if not trouble:
                picture = self._painter.timeline(path, upload.name, length, events)
        return Scanned(
            events=events,
            tables={
                Format.RAVEN: out / "raven" / f"{upload.name}.selections.txt",
                Format.AUDACITY: out / "audacity" / f"{upload.name}.labels.txt",
                Format.CSV: out / "events.csv",
            },
            picture=picture,
            seconds=length,
            windows=report.windows,
            elapsed=report.elapsed,
            trouble=trouble,
        )

    def _check_cost(self, wanted: ScanWanted, cut: CutOptions, length: float) -> None:
        windows = length / (cut.hop or cut.window)
        if windows > _MOST_WINDOWS:
            raise RequestFault(
                Fault.TOO_LARGE,
                f"{windows:.0f} windows; at most {_MOST_WINDOWS} are scanned here; give a longer Hop",
            )
        model: NatureLM = self._asker.model
        for question in wanted.questions:
            tokens = model.prompt_tokens(Query((), question))
            if tokens > self._limits.question_tokens:
                raise RequestFault(
                    Fault.TOO_LARGE,
                    f"the question makes {tokens} tokens; at most {self._limits.question_tokens} are taken",
                )


class _Reins:
    """Between a scan's thread and whoever follows it."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.followed = time.monotonic()
        self.coming = Coming(0.0, "Waiting for the model")

    def check(self) -> None:
        """RequestFault where the scan is to end."""
        if self.stopped.is_set():
            raise RequestFault(Fault.INVALID, "stopped; nothing of this scan was kept")
        if time.monotonic() - self.followed > _FOLLOWED:
            raise RequestFault(Fault.TIMED_OUT, "given up, since nobody followed the scan any more")


def _number(given: object, control: str) -> float | None:
    if given is None or given == "":
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise RequestFault(Fault.INVALID, f"{control}: give a number")
    return float(given)


def _presets(given: object) -> tuple[Preset, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > len(Preset):
        raise RequestFault(Fault.INVALID, "the questions to ask are not a list")
    try:
        return tuple(Preset(name) for name in given)
    except ValueError:
        raise RequestFault(Fault.INVALID, "there is no question by that name") from None


def _written(label: Label) -> str:
    return f"{label.scientific}_{label.common}" if label.scientific else label.text


def _share_file(path: Path, other: Path) -> None:
    """The same file under another name."""
    try:
        os.link(path, other)
    except OSError:  # another file system
        shutil.copyfile(path, other)
