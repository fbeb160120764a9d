"""Pairs to look at and listen to: one in full, some at random, and sheets of spectrograms for a task."""

import json
import math
import re
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from naturelm.corpus.options import CorpusError
from naturelm.corpus.recordings import Event
from naturelm.corpus.schema import Pair
from naturelm.corpus.spectrogram import draw_spectrogram, spectrogram
from naturelm.corpus.stats import open_splits
from naturelm.corpus.storage import Corpus, decode
from naturelm.errors import AudioError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ON_A_SHEET = 100
"""Pairs; an image of more would be too tall for most programs."""
_CELL_INCHES = 7.4
_GAP_INCHES = 0.75
_SPECTROGRAM_INCHES = 1.75
_LINE_INCHES = 0.175
_LETTERS = 100
"""Of text at size 9 that fit into a cell's width."""
_MOST_LINES = 14
_LONGEST_SECONDS = 1e9


@dataclass(frozen=True)
class Found:
    """A pair and where it stands."""

    split: str
    row: int
    """Number within the split."""
    pair: Pair


@dataclass(frozen=True)
class Sheet:
    """Some pairs of one task, drawn."""

    task: str
    image: Path
    sounds: tuple[Path, ...]
    failures: tuple[str, ...]
    """One line for each pair that could not be drawn; its place on the sheet says so too."""


def find_pair(folder: Path, wanted: str, split: str | None = None) -> Found:
    """The pair with this id, or with this row number (from 0) in a split (train, if none is given).

    Raises CorpusError, saying what there is, if there is none.
    """
    corpora = open_splits(folder, split)
    for name, corpus in corpora.items():
        row = pc.index(corpus.table(["id"]).column("id"), wanted).as_py()
        if row >= 0:
            return Found(name, row, corpus[row])
    if not wanted.isascii() or not wanted.isdigit():
        raise CorpusError(f"{folder}: no pair has the id {wanted!r}; `naturelm corpus sample` shows ids")
    name = split or next(iter(corpora))
    if int(wanted) >= len(corpora[name]):
        raise CorpusError(f"{folder}: no row {wanted} in {name}; it has {len(corpora[name])} rows, from 0")
    return Found(name, int(wanted), corpora[name][int(wanted)])


def task_names(folder: Path, split: str | None = None) -> tuple[str, ...]:
    """Tasks that a corpus, or a split of it, has pairs of."""
    corpora = open_splits(folder, split).values()
    return tuple(
        sorted(
            {
                task
                for corpus in corpora
                for task in corpus.table(["task"]).column("task").unique().to_pylist()
                if task
            }
        )
    )


def random_pairs(
    folder: Path, count: int, *, task: str | None = None, split: str | None = None, seed: int = 0
) -> Iterator[Found]:
    """Up to `count` different pairs in random order, the same for the same seed.

    task, split: only pairs of these. Raises CorpusError if there are none.
    """
    corpora = open_splits(folder, split)
    names = list(corpora)
    rows = [np.arange(len(corpus)) if task is None else _rows_of(corpus, task) for corpus in corpora.values()]
    ends = np.cumsum([len(of_split) for of_split in rows])
    total = int(ends[-1])
    if not total:
        tasks = ", ".join(task_names(folder, split))
        raise CorpusError(
            f"{folder}: no pairs" + (f" of task {task!r}; there are: {tasks}" if task else "; it is empty")
        )
    # A task's pairs do not depend on which other tasks are looked at.
    rng = np.random.default_rng([seed, zlib.crc32((task or "").encode())])
    for place in rng.choice(total, size=min(count, total), replace=False).tolist():
        number = int(np.searchsorted(ends, place, "right"))
        row = int(rows[number][place - (ends[number] - len(rows[number]))])
        yield Found(names[number], row, corpora[names[number]][row])


def _rows_of(corpus: Corpus, task: str) -> npt.NDArray[np.int64]:
    column = corpus.table(["task"]).column("task")
    return np.flatnonzero(pc.fill_null(pc.equal(column, task), False).to_numpy())


def pair_to_dict(found: Found) -> dict[str, Any]:
    """Everything but the sound, for JSON; the metadata read, or as text where it is no JSON."""
    values: dict[str, Any] = {"row": found.row}
    for field in fields(Pair):
        if field.name != "audio":
            value = getattr(found.pair, field.name)
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return {**values, "split": found.split, "metadata": _details(found.pair)}


def pair_to_text(found: Found) -> str:
    """Everything but the sound, to be read; control characters of the corpus are escaped."""
    pair = found.pair
    lines = [
        ("pair", f"{pair.id} ({found.split}, row {found.row})"),
        (
            "task",
            f"{pair.task}" + (f", scored as {pair.dataset_name}" if pair.dataset_name != pair.task else ""),
        ),
        ("question", pair.instruction_text),
        *[("options", option) for option in pair.options],
        ("answer", pair.output),
        *[("label", label) for label in pair.labels],
        *[("taxon", taxon) for taxon in pair.taxa],
        ("length", f"{pair.duration:.2f} s"),
        *_provenance(pair),
        ("licence", pair.license),
        ("made", pair.created_at),
    ]
    details = _details(pair)
    if isinstance(details, Mapping):
        lines += [(str(name), json.dumps(value, ensure_ascii=False)) for name, value in details.items()]
    else:
        lines.append(("metadata", details))
    shown, last = [], ""
    for name, value in lines:
        if value:
            shown.append(f"{'' if name == last else printable(name):<12} {printable(value)}")
            last = name
    return "\n".join(shown)


def _provenance(pair: Pair) -> Iterator[tuple[str, str]]:
    # A damaged row may have lists of different lengths: what there is is shown.
    most = max(len(pair.recordings), len(pair.source_files), len(pair.recordists))
    for number in range(most):
        recording, file, person = (
            values[number] if number < len(values) else "?"
            for values in (pair.recordings, pair.source_files, pair.recordists)
        )
        yield "recording", f"{recording}, from {file}" + (f", by {person}" if person else "")


def _details(pair: Pair) -> dict[str, Any] | str:
    try:
        details = pair.details()
    except (TypeError, ValueError):
        return pair.metadata or ""
    return details


def printable(text: str) -> str:
    """One line, with the codes that move a terminal's cursor escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def events_of(pair: Pair) -> tuple[Event, ...]:
    """What the metadata says is heard and when. CorpusError for events without a label or with no times."""
    details = _details(pair)
    listed = details.get("events", []) if isinstance(details, dict) else None
    if not isinstance(listed, list):
        raise CorpusError(f"{pair.id}: its metadata is not readable; run `naturelm corpus check`")
    events = []
    for number, given in enumerate(listed):
        times = [_number(given.get(name)) for name in ("start", "end")] if isinstance(given, dict) else []
        if len(times) != 2 or any(math.isnan(time) for time in times):
            raise CorpusError(
                f"{pair.id}: events[{number}] has no start and end; run `naturelm corpus check`"
            )
        events.append(Event(times[0], times[1], printable(str(given.get("label", "")))))
    return tuple(events)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < _LONGEST_SECONDS else math.nan


def safe_name(identifier: str) -> str:
    """A file name made from an id: one that holds a path or odd characters cannot lead out of a folder."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", identifier).lstrip(".")[:120]
    return plain if plain == identifier else f"{plain}-{zlib.crc32(identifier.encode()):08x}"


def write_sound(pair: Pair, folder: Path, prefix: str = "") -> Path:
    """Write the clip's FLAC file under its id. Raises AudioError, for a file that is no sound."""
    decode(pair)
    path = folder / f"{prefix}{safe_name(pair.id)}.flac"
    with _writing(folder):
        path.write_bytes(pair.audio)
    return path


def write_picture(found: Found, folder: Path) -> Path:
    """Draw one pair: its spectrogram, question, answer and events. Raises AudioError and CorpusError."""
    path = folder / f"{safe_name(found.pair.id)}.png"
    figure, failures = _draw([found], "", columns=1)
    if failures:
        raise CorpusError(failures[0])
    with _writing(folder):
        figure.savefig(path)
    return path


def write_sheet(
    folder: Path, task: str, out: Path, *, count: int = 10, split: str | None = None, seed: int = 0
) -> Sheet:
    """Draw random pairs of a task on `OUT/TASK.png`, and write their sounds, numbered alike, to `OUT/TASK/`.

    A pair that cannot be drawn has its place on the sheet with the reason in it.
    Raises CorpusError if there are no pairs, too many are asked for, or the folder cannot be written.
    """
    if not 1 <= count <= MOST_ON_A_SHEET:
        raise CorpusError(f"a sheet holds 1 to {MOST_ON_A_SHEET} pairs, not {count}")
    pairs = list(random_pairs(folder, count, task=task, split=split, seed=seed))
    name = safe_name(task)
    sounds = []
    for number, found in enumerate(pairs, 1):
        try:
            sounds.append(write_sound(found.pair, out / name, f"{number:02d}-"))
        except AudioError:
            continue  # told on the sheet
    title = (
        f"{task}: {len(pairs)} pair{'' if len(pairs) == 1 else 's'} at random"
        + (f" from {split}" if split else "")
        + f" (seed {seed})"
    )
    figure, failures = _draw(pairs, title, columns=2 if len(pairs) > 1 else 1)
    image = out / f"{name}.png"
    with _writing(out):
        figure.savefig(image)
    return Sheet(task, image, tuple(sounds), tuple(failures))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """The folder is there; what keeps a file from being written in it is told in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error


@dataclass(frozen=True)
class _Text:
    """What stands above a spectrogram, in lines."""

    head: list[str]
    question: list[str]
    answer: list[str]

    @property
    def inches(self) -> float:
        return (len(self.head) + len(self.question) + len(self.answer)) * _LINE_INCHES + 0.12


def _text_of(found: Found, number: int | None) -> _Text:
    pair = found.pair
    head = f"{pair.id}   {found.split}, {pair.source_dataset}, {pair.license}"
    return _Text(
        _wrapped(head if number is None else f"{number}.  {head}", round(_LETTERS * 1.15), most=2),
        _wrapped(pair.instruction_text, _LETTERS, most=_MOST_LINES),
        _wrapped(f"→ {pair.output}", round(_LETTERS * 0.87), most=_MOST_LINES),
    )


def _wrapped(text: str, letters: int, *, most: int) -> list[str]:
    lines = textwrap.wrap(printable(text), letters) or [""]
    if len(lines) <= most:
        return lines
    left = sum(len(line) + 1 for line in lines[most - 1 :])
    return [*lines[: most - 1], f"[and {left} characters more]"]


def _draw(pairs: Sequence[Found], title: str, *, columns: int) -> "tuple[Figure, list[str]]":
    """Pairs in a grid, row by row; rows are as high as their longest text needs."""
    from matplotlib.figure import Figure

    texts = [_text_of(found, number if title else None) for number, found in enumerate(pairs, 1)]
    rows = [range(first, min(first + columns, len(pairs))) for first in range(0, len(pairs), columns)]
    above = [max(texts[place].inches for place in row) for row in rows]
    head = 0.55 if title else 0.15
    width = columns * (_CELL_INCHES + _GAP_INCHES) + 0.15
    height = head + sum(above) + len(rows) * (_SPECTROGRAM_INCHES + 0.55)
    figure = Figure(figsize=(width, height), dpi=110)
    if title:
        figure.text(0.5, 1 - 0.3 / height, title, fontsize=14, ha="center", va="center", parse_math=False)
    failures: list[str] = []
    top = height - head
    for row, text_inches in zip(rows, above, strict=True):
        bottom = top - text_inches - _SPECTROGRAM_INCHES
        for column, place in enumerate(row):
            left = column * (_CELL_INCHES + _GAP_INCHES) + _GAP_INCHES - 0.1
            axes = figure.add_axes(
                (left / width, bottom / height, _CELL_INCHES / width, _SPECTROGRAM_INCHES / height)
            )
            _write_text(figure, texts[place], left / width, bottom + _SPECTROGRAM_INCHES, height)
            pair = pairs[place].pair
            try:
                draw_spectrogram(axes, spectrogram(decode(pair)), events=events_of(pair))
            except (AudioError, CorpusError) as error:
                failures.append(str(error) if pair.id in str(error) else f"{pair.id}: {error}")
                axes.set_axis_off()
                reason = "\n".join(_wrapped(str(error), _LETTERS, most=6))
                axes.text(
                    0.5, 0.5, reason, ha="center", va="center", fontsize=9, color="#b00020", parse_math=False
                )
        top = bottom - 0.55
    return figure, failures


def _write_text(figure: "Figure", text: _Text, left: float, bottom: float, height: float) -> None:
    """Lines upwards from `bottom` inches: the answer stands right above the spectrogram."""
    place = bottom + 0.06
    styles: Sequence[tuple[list[str], dict[str, Any]]] = (
        (text.answer, {"fontsize": 9.5, "color": "#0b5394", "fontweight": "bold"}),
        (text.question, {"fontsize": 9.5}),
        (text.head, {"fontsize": 8, "color": "#666666"}),
    )
    for lines, style in styles:
        for line in reversed(lines):
            figure.text(left, place / height, line, va="bottom", parse_math=False, **style)
            place += _LINE_INCHES
