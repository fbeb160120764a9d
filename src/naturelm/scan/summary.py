"""What is in a finished scan, and how it compares with annotations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from naturelm.scan.agreement import LabelAgreement, agreement
from naturelm.scan.annotations import Annotation, read_annotations
from naturelm.scan.events import Event, EventOptions, find_events
from naturelm.scan.export import rows_of
from naturelm.scan.finding import shown
from naturelm.scan.journal import Journal
from naturelm.scan.options import ScanError


@dataclass(frozen=True)
class Summary:
    """A scan in numbers. hours: of sound scanned. unheard: windows skipped as silence. labels: events by label."""

    model: str
    recordings: int
    failures: int
    hours: float
    windows: int
    unheard: int
    labels: dict[str, int]


def summarise(folder: Path, options: EventOptions) -> Summary:
    """The scan in `folder`, with events as `options` has them. ScanError where there is none."""
    journal = Journal(folder)
    begun, finished = journal.begun(), journal.finished()
    counts: Counter[str] = Counter()
    for _, path in finished:
        counts.update(event.label for event in find_events(rows_of(path), options))
    return Summary(
        model=str(begun["parameters"].get("model", "")),
        recordings=len(finished),
        failures=len(journal.failures(finished)),
        hours=sum(facts.seconds for facts, _ in finished) / 3600,
        windows=sum(facts.windows for facts, _ in finished),
        unheard=sum(facts.unheard for facts, _ in finished),
        labels=dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))),
    )


def compare(
    folder: Path,
    files: Sequence[Path],
    options: EventOptions,
    *,
    least_iou: float = 0.5,
    label_column: str | None = None,
) -> list[LabelAgreement]:
    """Agreement of a scan's events with hand-made annotations.

    files: Raven tables or Audacity tracks. A row belongs to the recording that it names (`Begin File`), or else to
    the one whose name the annotation file's own begins with (`night.wav.selections.txt`, `night.Table.1.txt`); one
    recording in the scan needs no name. A recording with a file and nothing in it counts as empty.

    Raises ScanError: a file that cannot be read, or belongs to no recording.
    """
    if not 0 < least_iou <= 1:
        raise ScanError(f"--iou: above 0 and at most 1, not {least_iou:g}")
    finished = Journal(folder).finished()
    annotated: dict[str, list[Annotation]] = {}
    names = [facts.path for facts, _ in finished]
    for file in files:
        found = read_annotations(file, label_column)
        if not found:
            annotated.setdefault(_recording_of(file, "", names), [])
        for annotation in found:
            annotated.setdefault(_recording_of(file, annotation.file, names), []).append(annotation)
    every = EventOptions(0.0, None, options.merge, options.gap, options.least_seconds)
    # Joining windows of any score would join everything: what is ranked is then what was found.
    ranking = options if options.merge else every
    events: dict[str, list[Event]] = {}
    ranked: dict[str, list[Event]] = {}
    for facts, path in finished:
        if facts.path in annotated:
            events[facts.path] = list(find_events(rows_of(path), options))
            ranked[facts.path] = list(find_events(rows_of(path), ranking))
    return agreement(events, annotated, ranked=ranked, least_iou=least_iou)


def _recording_of(file: Path, named: str, recordings: Sequence[str]) -> str:
    if named:
        fitting = [path for path in recordings if shown(Path(path).name) == Path(named).name]
    else:
        fitting = [
            path for path in recordings if file.name.startswith((Path(path).name, f"{Path(path).stem}."))
        ]
        if not fitting and len(recordings) == 1:
            fitting = list(recordings)
    if len(fitting) != 1:
        why = "no recording" if not fitting else f"{len(fitting)} recordings"
        raise ScanError(
            f"{file}: {why} of the scan belong to {named or 'its name'!r}; name it after its recording, or fill `Begin File`"
        )
    return fitting[0]
