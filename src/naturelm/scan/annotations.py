"""Hand-made annotations: Raven selection tables and Audacity label tracks, as events."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from naturelm.scan.options import ScanError

_LABEL_COLUMNS = ("annotation", "species", "label", "common name", "name")
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Annotation:
    """A stretch of a recording that somebody named. start, end: s; file: its recording's name, "" if not said."""

    start: float
    end: float
    label: str
    file: str = ""


def read_annotations(path: Path, label_column: str | None = None) -> list[Annotation]:
    """The annotations of a file: a Raven table if its first line names columns, else an Audacity track.

    label_column: of a Raven table; by default the first there is of Annotation, Species, Label, Common name, Name.

    Of a selection in both of Raven's views one is kept. Where a table covers several recordings and says `Begin
    File` and `File Offset (s)`, times are those in the recording. ScanError names the line that cannot be read.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ScanError(f"{path}: too large for a table of annotations; name a Raven or Audacity file")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(
            f"{path}: not a readable annotation file ({error}); name a Raven or Audacity file"
        ) from error
    first = text.partition("\n")[0].casefold()
    if "begin time (s)" in first:
        return _raven(path, text, label_column)
    return _audacity(path, text)


def _raven(path: Path, text: str, label_column: str | None) -> list[Annotation]:
    reader = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = {name.strip().casefold(): name for name in reader.fieldnames or ()}
    wanted = [label_column.casefold()] if label_column else list(_LABEL_COLUMNS)
    label = next((columns[name] for name in wanted if name in columns), None)
    if label is None or "end time (s)" not in columns:
        raise ScanError(
            f"{path}: no column {label_column or ' or '.join(_LABEL_COLUMNS)}; it has: {', '.join(columns.values())}"
        )
    found: dict[tuple[object, ...], Annotation] = {}
    for row in reader:
        try:
            start, end = float(row[columns["begin time (s)"]]), float(row[columns["end time (s)"]])
            if "file offset (s)" in columns and "begin file" in columns:
                offset = float(row[columns["file offset (s)"]])
                start, end = offset, offset + end - start
        except (TypeError, ValueError) as error:
            raise ScanError(f"{path}: line {reader.line_num} has no times ({error}); correct it") from error
        file = (row[columns["begin file"]] or "").strip() if "begin file" in columns else ""
        annotation = _checked(path, reader.line_num, Annotation(start, end, (row[label] or "").strip(), file))
        number = row[columns["selection"]] if "selection" in columns else reader.line_num
        found.setdefault((number, annotation), annotation)
    return list(found.values())


def _audacity(path: Path, text: str) -> list[Annotation]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("\\"):  # a second line, of frequencies
            continue
        start, _, rest = line.partition("\t")
        end, _, label = rest.partition("\t")
        try:
            found.append(_checked(path, number, Annotation(float(start), float(end), label.strip())))
        except ValueError as error:
            raise ScanError(
                f"{path}: line {number} is not `begin, tab, end, tab, label` ({error}); name a Raven or Audacity file"
            ) from error
    return found


def _checked(path: Path, line: int, annotation: Annotation) -> Annotation:
    if not 0 <= annotation.start <= annotation.end < float("inf"):
        raise ScanError(
            f"{path}: line {line} goes from {annotation.start:g} to {annotation.end:g} s; correct it"
        )
    return annotation
