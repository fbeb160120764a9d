"""Build BEANS-Zero as Parquet files, one for each component, and tell how many rows there are of those expected."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.audio import audio_info, read_audio
from naturelm.bench.beans_zero import ComponentFacts, beans_zero_components
from naturelm.bench.building.archives import Archives, plan_archives, read_archives
from naturelm.bench.building.beans import beans_layout, plan_beans
from naturelm.bench.building.planned import PROMPTS, BuildError, Planned, PlannedRow
from naturelm.corpus.recordings import FileSound, FloatArray
from naturelm.corpus.storage import write_text
from naturelm.errors import AudioError

REPORT = "build.json"
_DATA = "data"
_ROWS_OF_A_GROUP = 16
"""Rows that are in memory together: 10 s at 48 kHz as 32-bit numbers take 2 MB each."""
_MOST_FAULTS = 200
"""Told of a component; all are counted."""
_SCHEMA = pa.schema(
    [
        ("audio", pa.list_(pa.float32())),
        *((name, pa.string()) for name in (
            "id", "dataset_name", "source_dataset", "task", "instruction", "instruction_text", "output", "file_name",
            "license", "created_at", "metadata",
        )),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """Where on disk the data is that BEANS-Zero is made from."""

    beans: Path | None = None
    """The `data` folder of the prepared BEANS data sets."""
    xeno_canto: Path | None = None
    inaturalist: Path | None = None
    animal_sound_archive: Path | None = None
    captions: Path | None = None
    """CSV with `id` (of an iNaturalist sound) and `caption`."""

    def archives(self) -> dict[str, Path]:
        """Folders by the archive's name."""
        named = {
            "xeno-canto": self.xeno_canto,
            "inaturalist": self.inaturalist,
            "animal-sound-archive": self.animal_sound_archive,
        }
        return {name: folder for name, folder in named.items() if folder is not None}


@dataclass(frozen=True)
class BuiltComponent:
    """What came of one component."""

    dataset_name: str
    expected: int
    """Rows of the published component."""
    built: int
    unknown_labels: tuple[str, ...]
    """Published labels that no row has."""
    faults: int
    examples: tuple[str, ...]
    """The first of the faults."""
    note: str

    @property
    def complete(self) -> bool:
        """Whether there are as many rows as are published."""
        return self.built == self.expected


def build_beans_zero(
    sources: Sources,
    out: Path,
    *,
    components: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[BuiltComponent]:
    """Write `data/test-NN-NAME.parquet` of each component that has rows, and `build.json`.

    components: those wanted, default all. seed: of the draw where more recordings fit than are published. progress: told
    how many rows of how many are written. A file is written whole or not at all. Raises BuildError where nothing is given
    or the folder cannot be written, SourceError where an archive cannot be used at all.
    """
    facts = _wanted(components)
    if sources.beans is None and not sources.archives():
        raise BuildError(
            "nothing to build from; give the folder of at least one of BEANS, Xeno-canto, iNaturalist, ASA"
        )
    if sources.beans is not None and not sources.beans.is_dir():
        raise BuildError(
            f"{sources.beans}: no such folder; give the data folder of the prepared BEANS data sets"
        )
    if out.exists() and not out.is_dir():
        raise BuildError(f"{out}: is a file; give a folder for the data")
    archives = read_archives(sources.archives(), sources.captions)
    plans = [(of, _plan(sources, archives, of, seed)) for of in facts]
    total, done = sum(len(plan.rows) for _, plan in plans), 0
    order = list(beans_zero_components())
    found = []
    for of, plan in plans:
        path = out / _DATA / f"test-{order.index(of.name):02d}-{of.name}.parquet"
        failed: list[str] = []
        built = _write(path, of, plan.rows, failed, lambda rows, before=done: progress(before + rows, total))  # type: ignore[misc]
        done += len(plan.rows)
        faults = [*plan.faults, *failed]
        said = {
            label
            for row in plan.rows
            for label in (row.output, *(part.strip() for part in row.output.split(",")))
        }
        missing = tuple(label for label in of.labels if label not in said)
        found.append(
            BuiltComponent(
                of.name, of.rows, built, missing, len(faults), tuple(faults[:_MOST_FAULTS]), plan.note
            )
        )
    _write_report(out, found)
    return found


def _wanted(components: Sequence[str] | None) -> list[ComponentFacts]:
    known = beans_zero_components()
    unknown = sorted(set(components or ()) - set(known))
    if unknown:
        raise BuildError(f"no component is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [of for name, of in known.items() if components is None or name in components]


def _plan(sources: Sources, archives: Archives, facts: ComponentFacts, seed: int) -> Planned:
    if facts.name not in beans_layout():
        return plan_archives(archives, facts, seed)
    if sources.beans is None:
        return Planned((), note="without BEANS")
    return plan_beans(sources.beans, facts)


def _write(
    path: Path,
    facts: ComponentFacts,
    rows: Sequence[PlannedRow],
    failed: list[str],
    progress: Callable[[int], None],
) -> int:
    """Rows that were written; a file of an earlier build is taken away where there are none."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.unlink(missing_ok=True)
        if not rows:
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
            for group in _groups(facts, rows, failed, progress):
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
                written += len(group)
        if written:
            temporary.replace(path)
        return written
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be written ({error}); free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _groups(
    facts: ComponentFacts, rows: Sequence[PlannedRow], failed: list[str], progress: Callable[[int], None]
) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        try:
            group.append(_row(facts, row))
        except AudioError as error:
            failed.append(f"{row.id}: {error}")
        if len(group) == _ROWS_OF_A_GROUP:
            yield group
            group = []
        progress(number)
    if group:
        yield group


def _row(facts: ComponentFacts, row: PlannedRow) -> dict[str, Any]:
    samples = _samples(row, facts.sample_rate)
    prompt = PROMPTS[facts.name]
    metadata = {
        "sample_rate": facts.sample_rate,
        "duration": round(len(samples) / facts.sample_rate, 6),
        "recording": row.recording,
        "start": row.start,
    }
    return {
        "audio": samples,
        "id": row.id,
        "dataset_name": facts.name,
        "source_dataset": facts.source,
        "task": facts.task,
        "instruction": f"<Audio><AudioHere></Audio> {prompt}",
        "instruction_text": prompt,
        "output": row.output,
        "file_name": row.file_name,
        "license": row.license,
        "created_at": row.created_at,
        "metadata": json.dumps(metadata),
    }


def _samples(row: PlannedRow, rate: int) -> FloatArray:
    """(samples,) at the component's rate; what the sound lacks at its end is not filled up."""
    sound = row.sound
    if not isinstance(sound, FileSound):
        return np.asarray(sound.read(row.start, row.end))
    # An end beyond the recording is its end.
    ends = row.end is None or row.end >= audio_info(sound.path).duration
    return read_audio(sound.path, sample_rate=rate, start=row.start, end=None if ends else row.end)


def _write_report(out: Path, found: Sequence[BuiltComponent]) -> None:
    rows = [{**asdict(of), "complete": of.complete} for of in found]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / REPORT, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise BuildError(f"{out}: cannot be written to ({error}); choose another folder") from error
