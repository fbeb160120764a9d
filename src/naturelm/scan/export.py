"""From the journal to all that people read: scores, events, failures, clips, a page. No model is needed."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

from naturelm.corpus.storage import write_text
from naturelm.scan.best import BestEvents
from naturelm.scan.events import EventOptions, find_events
from naturelm.scan.finding import CLIPS
from naturelm.scan.formats import Scene, open_table
from naturelm.scan.journal import Failed, Journal
from naturelm.scan.names import Format
from naturelm.scan.options import Label, ScanError
from naturelm.scan.table import RecordingFacts, join_scores, read_scores
from naturelm.scan.times import recording_start

SCORES_FILE = "scores.parquet"
FAILURES_FILE = "failures.csv"
_BEST_ON_PAGE = 6


@dataclass(frozen=True)
class ExportOptions:
    """What is written of a scan.

    time_zone: of time stamps that state none, and of all clock times in the tables; None leaves them as stated.
    clips: of each label, the best so many. html: a page to look at. relative: recordings in the tables go by their
    path below the folder that was searched, not by the whole one.
    """

    events: EventOptions = field(default_factory=EventOptions)
    formats: tuple[Format, ...] = (Format.CSV,)
    time_zone: tzinfo | None = None
    clips: int = 0
    html: bool = False
    relative: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written: rows of scores, events, recordings, and clips."""

    rows: int
    events: int
    recordings: int
    clips: int


def export(folder: Path, options: ExportOptions, *, scores: bool = True) -> Exported:
    """Write the tables of the scan in `folder`; scores: the joined Parquet file, too.

    Raises ScanError where there is no scan, its files are damaged or the folder cannot be written to.
    """
    journal = Journal(folder)
    begun = journal.begun()
    try:
        with journal.writing_outputs():
            return _export(folder, journal, begun, options, scores)
    except OSError as error:
        raise ScanError(
            f"{error.filename or folder}: {error.strerror or error}; mend this, then naturelm scan export {folder}"
        ) from error


def _export(
    folder: Path, journal: Journal, begun: dict[str, Any], options: ExportOptions, scores: bool
) -> Exported:
    finished = journal.finished()
    rows = 0
    if scores:
        rows = join_scores([path for _, path in finished], folder / SCORES_FILE, {})
    _write_failures(journal.failures(finished), folder / FAILURES_FILE)
    tables = [open_table(kind, folder) for kind in dict.fromkeys(options.formats)]
    best = BestEvents(max(options.clips, _BEST_ON_PAGE if options.html else 0))
    events = 0
    for scene, path in scenes(finished, begun, options.time_zone):
        found = list(find_events(rows_of(path), options.events))
        events += len(found)
        for table in tables:
            table.add(replace(scene, relative=options.relative), found)
        best.add(scene, found)
    for table in tables:
        table.close()
    clips = 0
    if options.clips:
        from naturelm.scan.clips import write_clips

        clips = write_clips(best.top(options.clips), folder / CLIPS)
    if options.html:
        from naturelm.scan.page import write_page

        write_page(best, folder, begun["parameters"], _BEST_ON_PAGE)
    return Exported(rows, events, len(finished), clips)


def scenes(
    finished: list[tuple[RecordingFacts, Path]], begun: dict[str, Any], zone: tzinfo | None
) -> Iterator[tuple[Scene, Path]]:
    """Every finished recording with what the tables need to know of it, and its file of scores."""
    labels = {each["text"]: Label(**each) for each in begun["labels"]}
    taken: set[Path] = set()
    for facts, path in finished:
        name = _name(facts)
        if name in taken:  # of another folder that was searched
            name = name.with_name(f"{name.name}-{path.stem[:8]}")
        taken.add(name)
        yield (
            Scene(
                facts=facts,
                begin=recording_start(facts.path, facts.header_time, zone),
                name=name,
                channel=begun["parameters"].get("channel"),
                heard_hz=begun["parameters"]["sample_rate"] / 2,
                labels=labels,
            ),
            path,
        )


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file of scores as plain values, a bounded number in memory."""
    for table in read_scores(path):
        for batch in table.to_batches(4096):
            yield from batch.to_pylist()


def _name(facts: RecordingFacts) -> Path:
    path = Path(facts.path)
    inside = path.is_relative_to(facts.folder) and ".." not in path.parts
    # A journal that came from elsewhere must not lead out of the folder of the tables.
    return path.relative_to(facts.folder) if inside else Path(path.name)


def _write_failures(failures: list[Failed], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("File", "Error", "Scanned to (s)"))
    writer.writerows((failed.path, failed.error, f"{failed.seconds:.3f}") for failed in failures)
    write_text(path, text.getvalue())
