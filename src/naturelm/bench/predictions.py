"""Files of predictions, by any system: CSV or JSON lines with `dataset_name`, `prediction` and `label`."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naturelm.bench.published import Prediction
from naturelm.errors import NatureLMError

COLUMNS = ("dataset_name", "prediction", "label")
_ID = "id"
_ERROR = "error"
"""Why a row has no answer, as `naturelm bench run` writes it; such a row is wrong, whatever it would be taken for."""
_JSON_LINES = {".jsonl", ".ndjson", ".json"}
_LONGEST_CELL = 2**26
"""Letters of one cell of a CSV file; Python's own limit of 131,072 is less than what a system that babbles writes."""


@dataclass(frozen=True)
class PredictionFault:
    """What is wrong with a line, and what became of it."""

    line: int
    message: str


@dataclass(frozen=True)
class PredictionsFile:
    """What a file holds."""

    rows: tuple[Prediction, ...]
    faults: tuple[PredictionFault, ...]
    notes: tuple[str, ...] = ()
    """What a reader of the scores has to know of rows that are scored as they stand."""


def read_predictions(path: Path) -> PredictionsFile:
    """Read a file of predictions: JSON lines by its ending `.jsonl`, `.ndjson` or `.json`, CSV otherwise.

    A row whose `prediction` is no text (nothing, NaN, a list) is wrong, whatever is right; one without a data set or a
    label is left out, as is a second row of the same `id` where there are ids. Each is a fault. An empty text is matched
    to a label as any other. Raises NatureLMError where the file cannot be read, lacks a column, or has no row at all.
    """
    rows: list[Prediction] = []
    faults: list[PredictionFault] = []
    empty, lists = 0, 0
    seen: set[tuple[str, str]] = set()
    try:
        for line, fields in _lines(path):
            if isinstance(fields, str):
                faults.append(PredictionFault(line, fields))
                continue
            name, label = _text(fields["dataset_name"]), _text(fields["label"])
            missing = [key for key, text in (("dataset_name", name), ("label", label)) if not text]
            if missing:
                faults.append(PredictionFault(line, f"its {missing[0]} is no text; the row is left out"))
                continue
            own = (str(name), str(fields[_ID])) if fields.get(_ID) not in (None, "") else None
            if own is not None and own in seen:
                faults.append(PredictionFault(line, f"a second row of id {own[1]} of {name}; it is left out"))
                continue
            if own is not None:
                seen.add(own)
            written = _text(fields["prediction"])
            failed = bool(fields.get(_ERROR))
            if written is None and not failed:
                faults.append(
                    PredictionFault(
                        line, f"its prediction is {_kind(fields['prediction'])}; it counts as wrong"
                    )
                )
            empty += written == "" and not failed
            lists += bool(written) and _is_list(str(written))
            rows.append(Prediction(str(name), written or "", str(label), failed or written is None))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NatureLMError(
            f"{path}: cannot be read ({why}); give a CSV or JSON-lines file in UTF-8"
        ) from error
    if not rows:
        why = f" (line {faults[0].line}: {faults[0].message})" if faults else ""
        raise NatureLMError(f"{path}: no usable prediction{why}; it needs rows of {', '.join(COLUMNS)}")
    return PredictionsFile(tuple(rows), tuple(faults), tuple(_notes(path, empty, lists)))


def _notes(path: Path, empty: int, lists: int) -> Iterator[str]:
    if empty:
        yield (
            f"{path}: {empty:,} predictions are empty; each is taken for the nearest label, which is the shortest one, "
            "as by the published evaluator"
        )
    if lists:
        yield (
            f"{path}: {lists:,} predictions look like lists ([...]) and are scored as the text they are; write several "
            "labels with commas between"
        )


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Line number, and the row or what is wrong with it."""
    if path.suffix.lower() not in _JSON_LINES:
        with path.open(newline="", encoding="utf-8-sig") as file, _long_cells():
            table = csv.DictReader(file)
            header = table.fieldnames or ()
            missing = _missing(header)
            if missing:
                found = ", ".join(header)[:200] or "nothing"
                raise NatureLMError(
                    f"{path}: no column {missing}; it needs {', '.join(COLUMNS)}, and its header has: {found}"
                )
            for fields in table:
                # NaN as pandas and others write it; JSON has it as a number.
                nan = str(fields["prediction"]).strip().casefold() == "nan"
                yield table.line_num, {**fields, "prediction": math.nan} if nan else fields
        return
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                yield number, "no JSON object on a line of its own; the line is left out"
                continue
            if not isinstance(fields, dict):
                yield number, "JSON, but no object; the line is left out"
                continue
            missing = _missing(fields)
            yield number, f"no column {missing}; the line is left out" if missing else fields


def _missing(given: Iterable[str]) -> str:
    return ", ".join(name for name in COLUMNS if name not in set(given))


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    nan = isinstance(value, float) and math.isnan(value)
    return f"no text but {'NaN' if nan else type(value).__name__}"


def _is_list(text: str) -> bool:
    """Whether it is how Python or JSON writes a list of texts."""
    return text.startswith(("['", '["')) and text.endswith(("']", '"]'))


def _text(value: object) -> str | None:
    """Text, or a number or truth value as text; None for what is no text, such as NaN and lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return None
