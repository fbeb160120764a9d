"""The journal of a run: one JSON line a row, appended batch by batch, so that a kill costs one batch at most.

Batches are the same every time, so what is there is the beginning of what an unbroken run writes. A batch of which
only a part came to the disk is cut off and asked again, whole: its answers are then those of the same batch.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from naturelm.bench.running.asking import Outcome
from naturelm.bench.suites.suite import SuiteRow
from naturelm.errors import NatureLMError

_DIGITS = 7
"""Of a score: as many as 32-bit numbers have."""


class RunError(NatureLMError):
    """A run that cannot be started, gone on with or read; the text names the file and the cure."""


@dataclass(frozen=True)
class RunRow:
    """A row of a journal."""

    id: str
    dataset_name: str
    prediction: str
    """Empty where there is none."""
    label: str
    """The right answer."""
    prompt: str
    group: str
    scores: Mapping[str, float] | None = None
    error: str = ""
    """Why there is no prediction."""


def line_of(row: SuiteRow, prompt: str, outcome: Outcome) -> str:
    """A row as it stands in the journal, with its line end."""
    answer = outcome.answer
    fields: dict[str, Any] = {
        "id": row.id,
        "dataset_name": row.dataset_name,
        "prediction": "" if answer is None else answer.prediction,
        "label": row.output,
        "prompt": prompt,
        "group": row.group,
    }
    if answer is not None and answer.scores is not None:
        fields["scores"] = {label: _rounded(score) for label, score in answer.scores.items()}
    if outcome.error:
        fields["error"] = outcome.error
    # A lone surrogate, which a decoder can make, is no UTF-8.
    text = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
    return f"{text}\n"


def _rounded(score: float) -> float:
    return float(f"{score:.{_DIGITS}g}")


class Journal:
    """A journal that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def open(self, expected: Sequence[Sequence[SuiteRow]], batch_size: int) -> int:
        """Open for appending; returns the number of rows that are there.

        expected: the rows that will be asked, in windows within which batches of `batch_size` may take any order. Raises
        RunError where the file holds other rows than these.
        """
        kept = 0
        lines = _whole_lines(self.path)
        for window in expected:
            there = lines[kept : kept + len(window)]
            wanted = {(row.dataset_name, row.id) for row in window}
            if {key for key, _ in there} - wanted or len({key for key, _ in there}) != len(there):
                raise RunError(
                    f"{self.path}: line {kept + 1} and on are of other rows than this command asks; choose another folder"
                )
            if len(there) < len(window):
                kept += len(there) - len(there) % batch_size
                break
            kept += len(window)
        else:
            if len(lines) > kept:
                raise RunError(f"{self.path}: holds more rows than this command asks; choose another folder")
        try:
            self._file = self.path.open("ab")
            self._file.truncate(sum(size for _, size in lines[:kept]))
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error}); choose another folder") from error
        return kept

    def append(self, lines: Sequence[str]) -> None:
        """Add the lines of a batch, and wait until they are on the disk."""
        assert self._file is not None
        try:
            self._file.write("".join(lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error}); free some space and go on") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _whole_lines(path: Path) -> list[tuple[tuple[str, str], int]]:
    """Component and id, and length in bytes, of the lines at the beginning of a file that are whole."""
    found = []
    try:
        with path.open("rb") as file:
            for line in file:
                key = _key(line)
                if key is None:
                    break
                found.append((key, len(line)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); choose another folder") from error
    return found


def _key(line: bytes) -> tuple[str, str] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
        return str(fields["dataset_name"]), str(fields["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def read_journal(path: Path) -> list[RunRow]:
    """All whole rows of a journal. Raises RunError where it cannot be read or a line is none of a journal."""
    rows = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    rows.append(_row(line, f"{path}, line {number}"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); is this the folder of a run?") from error
    return rows


def _row(line: bytes, where: str) -> RunRow:
    try:
        fields = json.loads(line)
        texts = {key: fields[key] for key in ("id", "dataset_name", "prediction", "label")}
        texts |= {key: fields.get(key, "") for key in ("prompt", "group", "error")}
        scores = fields.get("scores")
        if not all(isinstance(text, str) for text in texts.values()) or not isinstance(scores, dict | None):
            raise ValueError("a field of another kind")
        known = None if scores is None else {str(label): float(score) for label, score in scores.items()}
        return RunRow(**texts, scores=known)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{where}: no row of a run ({error}); take the line out or run again") from error
