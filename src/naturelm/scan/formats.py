"""Events as the tables that other tools read."""

import csv
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Protocol

from naturelm.scan.events import Event
from naturelm.scan.finding import shown
from naturelm.scan.names import Format
from naturelm.scan.options import Label
from naturelm.scan.table import RecordingFacts
from naturelm.scan.times import moment

EVENT_COLUMNS = (
    *("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"),  # BirdNET's
    *("Label", "Question", "Start time", "End time", "Windows"),  # ours
)
RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin File", "File Offset (s)", "Begin Path", "Annotation", "Confidence"),
)
KALEIDOSCOPE_COLUMNS = ("INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "TOP1MATCH", "TOP1DIST")


@dataclass(frozen=True)
class Scene:
    """What the tables say of a recording beside its events.

    begin: when it begins, if that is known. name: its path below the folder that was searched, unique in a scan.
    channel: that was listened to, from 0, None for the mean. heard_hz: the highest frequency that the engine hears.
    labels: names by label. relative: whether the tables give `name` for the recording, not its whole path.
    """

    facts: RecordingFacts
    begin: datetime | None
    name: Path
    channel: int | None
    heard_hz: float
    labels: Mapping[str, Label]
    relative: bool = False

    @property
    def path(self) -> Path:
        """The recording's path as the tables give it."""
        return Path(shown(str(self.name) if self.relative else self.facts.path))

    def time(self, seconds: float) -> str:
        """Clock time of a moment of the recording, ISO 8601 to the millisecond, or ""."""
        found = moment(self.begin, seconds)
        return "" if found is None else found.isoformat(timespec="milliseconds")

    @property
    def top_hz(self) -> float:
        """The highest frequency that the engine heard in this file."""
        return min(self.heard_hz, self.facts.sample_rate / 2)


class Table(Protocol):
    """Writes the events of one recording after the other; `close` puts the files into their places."""

    def add(self, scene: Scene, events: list[Event]) -> None: ...

    def close(self) -> None: ...


class _TextFile:
    """A text file that is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.file: TextIOWrapper = self._temporary.open("w", encoding="utf-8", newline="")

    def close(self) -> None:
        self.file.close()
        self._temporary.replace(self._path)


class _Rows:
    """A table of one file, a row an event."""

    def __init__(
        self, path: Path, columns: tuple[str, ...], row: Callable[[Scene, Event], tuple[object, ...]]
    ) -> None:
        self._text = _TextFile(path)
        self._row = row
        self._writer = csv.writer(self._text.file, lineterminator="\n")
        self._writer.writerow(columns)

    def add(self, scene: Scene, events: list[Event]) -> None:
        self._writer.writerows(self._row(scene, event) for event in events)

    def close(self) -> None:
        self._text.close()


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._text = _TextFile(path)

    def add(self, scene: Scene, events: list[Event]) -> None:
        for event in events:
            values = dict(zip(EVENT_COLUMNS, _event_row(scene, event), strict=True))
            plain = {
                "recording": str(scene.path),
                "start": event.start,
                "end": event.end,
                "label": event.label,
                "scientific_name": values["Scientific name"],
                "common_name": values["Common name"],
                "question": event.question,
                "confidence": round(event.score, 6),
                "start_time": values["Start time"] or None,
                "end_time": values["End time"] or None,
                "windows": event.windows,
            }
            self._text.file.write(json.dumps(plain, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._text.close()


class _Raven:
    """Selection tables: one for each recording, and one of all with the times of the recordings laid end to end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all = _TextFile(folder / "combined.selections.txt")
        self._all.file.write(_tabbed(RAVEN_COLUMNS))
        self._number = 0
        self._before = 0.0  # s of all recordings so far

    def add(self, scene: Scene, events: list[Event]) -> None:
        own = _TextFile(self._folder / f"{scene.name}.selections.txt")
        own.file.write(_tabbed(RAVEN_COLUMNS))
        for number, event in enumerate(events, 1):
            self._number += 1
            own.file.write(_tabbed(_raven_row(scene, event, number, 0.0)))
            self._all.file.write(_tabbed(_raven_row(scene, event, self._number, self._before)))
        own.close()
        self._before += scene.facts.duration

    def close(self) -> None:
        self._all.close()


class _Audacity:
    """A label track for each recording: begin, end and label, tabs between."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, scene: Scene, events: list[Event]) -> None:
        own = _TextFile(self._folder / f"{scene.name}.labels.txt")
        for event in events:
            label = f"{event.label} {event.score:.2f}"
            own.file.write(_tabbed((f"{event.start:.6f}", f"{event.end:.6f}", label)))
        own.close()

    def close(self) -> None:
        return


def open_table(kind: Format, out: Path) -> Table:
    """A table of this kind, in the folder of a scan's results."""
    if kind is Format.CSV:
        return _Rows(out / "events.csv", EVENT_COLUMNS, _event_row)
    if kind is Format.KALEIDOSCOPE:
        return _Rows(out / "kaleidoscope.csv", KALEIDOSCOPE_COLUMNS, _kaleidoscope_row)
    if kind is Format.JSONL:
        return _JsonLines(out / "events.jsonl")
    return _Raven(out / "raven") if kind is Format.RAVEN else _Audacity(out / "audacity")


def _event_row(scene: Scene, event: Event) -> tuple[object, ...]:
    names = scene.labels.get(event.label, Label(event.label)) if not event.question else Label("")
    return (
        f"{event.start:.6f}",
        f"{event.end:.6f}",
        names.scientific,
        names.common,
        f"{event.score:.4f}",
        str(scene.path),
        event.label,
        event.question,
        scene.time(event.start),
        scene.time(event.end),
        event.windows,
    )


def _raven_row(scene: Scene, event: Event, number: int, before: float) -> tuple[object, ...]:
    return (
        number,
        "Spectrogram 1",
        1 if scene.channel is None else scene.channel + 1,
        f"{before + event.start:.6f}",
        f"{before + event.end:.6f}",
        "0.0",
        f"{scene.top_hz:.1f}",
        scene.path.name,
        f"{event.start:.6f}",
        str(scene.path),
        event.label,
        f"{event.score:.4f}",
    )


def _kaleidoscope_row(scene: Scene, event: Event) -> tuple[object, ...]:
    path = scene.path
    searched = "" if scene.relative else shown(scene.facts.folder)
    folder = os.path.relpath(path.parent, searched or ".")
    return (
        searched,
        "" if folder == "." else folder,
        path.name,
        f"{event.start:.6f}",
        f"{event.end - event.start:.6f}",
        event.label,
        f"{1 - event.score:.4f}",  # a distance: small is good
    )


def _tabbed(values: tuple[object, ...]) -> str:
    """A line; what comes from outside cannot begin another column or line."""
    return "\t".join(" ".join(str(value).split()) for value in values) + "\n"
