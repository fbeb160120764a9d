"""Files of predictions, by any system: CSV or JSON lines with `dataset_name`, `prediction` and `label`."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
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


def read_predictions(path: Path) -> PredictionsFile:
    """Read a file of predictions: JSON lines by its ending `.jsonl`, `.ndjson` or `.json`, CSV otherwise.

    A row without a usable `prediction` counts as one that wrote nothing; one without a data set or a label is left
    out, as is a second row of the same `id` where there are ids. Each is a fault. Raises NatureLMError where the file
    cannot be read, lacks a column, or has no row at all.
    """
    rows: list[Prediction] = []
    faults: list[PredictionFault] = []
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
            if written is None:
                what = type(fields["prediction"]).__name__
                faults.append(
                    PredictionFault(
                        line, f"its prediction is no text but {what}; it counts as nothing written"
                    )
                )
            failed = bool(fields.get(_ERROR))
            rows.append(Prediction(str(name), written or "", str(label), failed))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NatureLMError(
            f"{path}: cannot be read ({error}); give a CSV or JSON-lines file in UTF-8"
        ) from error
    if not rows:
        why = f" (line {faults[0].line}: {faults[0].message})" if faults else ""
        raise NatureLMError(f"{path}: no usable prediction{why}; it needs rows of {', '.join(COLUMNS)}")
    return PredictionsFile(tuple(rows), tuple(faults))


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Line number, and the row or what is wrong with it."""
    if path.suffix.lower() not in _JSON_LINES:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = _missing(table.fieldnames or ())
            if missing:
                raise NatureLMError(f"{path}: no column {missing}; it needs {', '.join(COLUMNS)}")
            for fields in table:
                yield table.line_num, fields
        return
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                yield number, "no JSON; the line is left out"
                continue
            if not isinstance(fields, dict):
                yield number, "no JSON object; the line is left out"
                continue
            missing = _missing(fields)
            yield number, f"no column {missing}; the line is left out" if missing else fields


def _missing(given: Iterable[str]) -> str:
    return ", ".join(name for name in COLUMNS if name not in set(given))


def _text(value: object) -> str | None:
    """Text, or a number or truth value as text; None for what is no text, such as NaN and lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return None
