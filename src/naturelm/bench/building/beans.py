"""The original BEANS data sets, as that benchmark's own scripts prepare them below one folder (its `data`).

Classification: a table with `path` and `label`. Detection: JSON lines with `path`, `length` (s) and `annotations` with `st`,
`ed` (s) and `label`. Labels are codes there; `beans_layout.json` has the tables' names and what each code is called.
Zebra finches are in no BEANS data set: put theirs beside as `zf-indiv/annotations.test.csv`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from naturelm.audio import audio_info
from naturelm.bench.beans_zero import ComponentFacts
from naturelm.bench.building.planned import Planned, PlannedRow, event_labels, windows
from naturelm.bench.published import DETECTION
from naturelm.corpus.recordings import FileSound
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.tables import inside, read_rows
from naturelm.errors import AudioError

_LONGEST_FILE = 24 * 3600.0
_NONE = "None"


@cache
def beans_layout() -> Mapping[str, Mapping[str, Any]]:
    """By component: `table` (path below the folder), `codes` (label by code), `unknown` (the code of all others)."""
    text = files("naturelm.bench.building").joinpath("beans_layout.json").read_text(encoding="utf-8")
    return {fields["name"]: fields for fields in json.loads(text)}


def plan_beans(folder: Path, facts: ComponentFacts) -> Planned:
    """Rows of one component. Without its table there are none, and a note that says which file is missing."""
    layout = beans_layout()[facts.name]
    table = folder / str(layout["table"])
    if not table.is_file():
        return Planned((), note=f"{table} is not there; prepare the data set as BEANS does")
    faults: list[str] = []
    try:
        plan = _windows_of if facts.task == DETECTION else _clips_of
        return Planned(tuple(plan(folder, table, facts, layout, faults)), tuple(faults))
    except SourceError as error:
        return Planned((), (str(error),))


def _clips_of(
    folder: Path, table: Path, facts: ComponentFacts, layout: Mapping[str, Any], faults: list[str]
) -> Iterator[PlannedRow]:
    for line, fields in read_rows(table, ("path", "label")):
        where = f"{table.name} line {line}"
        label = _label(fields["label"], layout)
        path = _sound_path(folder, fields["path"])
        if label is None:
            faults.append(f"{where}: no label of {facts.name} is called {fields['label']!r}")
        elif path is None:
            faults.append(f"{where}: {fields['path']!r} is not there, or not below {folder}")
        else:
            name = path.relative_to(folder.resolve()).as_posix()
            yield PlannedRow(
                f"{facts.name}-{name}", FileSound(path), 0.0, facts.longest, label, name, name, facts.license
            )


def _windows_of(
    folder: Path, table: Path, facts: ComponentFacts, layout: Mapping[str, Any], faults: list[str]
) -> Iterator[PlannedRow]:
    assert facts.window is not None and facts.hop is not None
    order = [label for label in facts.labels if label != _NONE]
    with table.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{table.name} line {number}"
            fields = _json(line)
            path = _sound_path(folder, str(fields.get("path", ""))) if fields else None
            if fields is None or path is None:
                faults.append(
                    f"{where}: names no sound below {folder}" if fields else f"{where}: no JSON object"
                )
                continue
            try:
                # By the file and not by what the line says: a window beyond the end would be no sound.
                duration = min(audio_info(path).duration, _LONGEST_FILE)
            except AudioError as error:
                faults.append(f"{where}: {error}")
                continue
            events = list(_events(fields, layout, where, faults))
            name = path.relative_to(folder.resolve()).as_posix()
            for start in windows(duration, facts.window, facts.hop):
                end = start + facts.window
                yield PlannedRow(
                    id=f"{facts.name}-{name}-{start:g}",
                    sound=FileSound(path),
                    start=start,
                    end=min(end, duration),
                    output=event_labels(start, end, events, order),
                    recording=name,
                    file_name=name,
                    license=facts.license,
                )


def _events(
    fields: Mapping[str, Any], layout: Mapping[str, Any], where: str, faults: list[str]
) -> Iterator[tuple[float, float, str]]:
    given = fields.get("annotations")
    for event in given if isinstance(given, list) else ():
        times = [event.get(key) for key in ("st", "ed")] if isinstance(event, dict) else []
        label = _label(str(event.get("label", "")), layout) if isinstance(event, dict) else None
        if label is None or not all(isinstance(time, int | float) and math.isfinite(time) for time in times):
            faults.append(
                f"{where}: an annotation without times or with a label that is not known: {str(event)[:80]}"
            )
        else:
            yield float(times[0]), float(times[1]), label  # type: ignore[arg-type]


def _label(code: str, layout: Mapping[str, Any]) -> str | None:
    codes: Mapping[str, str] = layout["codes"]
    # Tables that went through pandas have whole numbers with a point.
    plain = code.strip().removesuffix(".0")
    return codes.get(plain) or codes.get(str(layout["unknown"]))


def _sound_path(folder: Path, name: str) -> Path | None:
    """Paths are given from the folder above `data`, or from within it."""
    relative = PurePosixPath(name.strip())
    if relative.parts[:1] == ("data",):
        relative = PurePosixPath(*relative.parts[1:])
    path = inside(folder, relative.as_posix()) if name.strip() else None
    try:
        return path.resolve() if path is not None and path.is_file() else None
    except OSError:
        return None


def _json(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
