"""NatureLM-audio-training: the finished question-and-answer rows of the Hugging Face data set.

EarthSpeciesProject/NatureLM-audio-training (Robinson et al. 2025), as its Parquet shards are downloaded:
columns `audio` (a struct of a file's bytes and its name, or samples as a list), `instruction`, `output`,
`task`, `source_dataset`, `metadata` (JSON text), `license`, `id` and `file_name`. Each row is a recording
whose question and answer can be passed through unchanged; what else it says is read from the metadata
(`species`, `recordist`, `url`, `duration`, ...), so a row without species is no fault here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.audio import SAMPLE_RATE, read_audio
from naturelm.corpus.recordings import Failure, FloatArray, Kind, Recording
from naturelm.corpus.sources import SourceError
from naturelm.corpus.sources.fields import iso_date, listed_words, whole_number
from naturelm.corpus.sources.files import Ids, as_seconds, as_text
from naturelm.corpus.sources.tables import existing_folder, inside
from naturelm.errors import AudioError

NAME = "naturelm-training"

_REQUIRED = ("id", "instruction", "output", "metadata")
_OPTIONAL = ("task", "source_dataset", "license", "file_name")
_BATCH = 1024  # rows without their audio
_SPEECH = ("librispeech", "libritts", "vctk", "speech")
_MUSIC = ("nsynth", "music")


@dataclass(frozen=True)
class ParquetSound:
    """The sound in one row of a Parquet file, in the column `audio`."""

    path: Path
    row_group: int
    row: int
    """Within the row group."""
    sample_rate: int = SAMPLE_RATE
    """Hz, for a list of samples; a file's bytes state their own."""

    def read(self, start: float = 0.0, end: float | None = None) -> FloatArray:
        """See `Sound.read`. Reads the audio of the row's group, and no other column."""
        where = f"{self.path} row {self.row} of group {self.row_group}"
        try:
            with pq.ParquetFile(self.path) as file:
                column = file.read_row_group(self.row_group, columns=["audio"]).column("audio")
            value = column[self.row]
        except (OSError, pa.ArrowException, KeyError, IndexError) as error:
            raise AudioError(f"{where}: cannot be read ({_line(error)}); download the file again") from error
        try:
            if isinstance(value, pa.StructScalar):
                content = value.as_py().get("bytes")
                if not content:
                    raise AudioError("<bytes>: there are none; download the shard with its audio")
                return read_audio(content, start=start, end=end, sample_rate=SAMPLE_RATE)
            if not value.is_valid:
                raise AudioError("<array>: there is none; download the shard with its audio")
            samples = np.asarray(value.values.to_numpy(zero_copy_only=False), dtype=np.float32)
            return read_audio(
                samples, start=start, end=end, sample_rate=SAMPLE_RATE, source_rate=self.sample_rate
            )
        except AudioError as error:
            # Only the name of the row helps: that of the bytes within it is the same for all.
            raise AudioError(f"{where}: {str(error).partition(': ')[2]}") from error
        except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
            raise AudioError(f"{where}: holds no audio ({_line(error)}); download the file again") from error


@dataclass(frozen=True)
class Source:
    """The folder into which the data set's Parquet files were downloaded."""

    folder: Path

    def recordings(self) -> Iterator[Recording | Failure]:
        """See `ArchiveSource.recordings`. The group is the recording that the row was cut or made from."""
        folder = existing_folder(self.folder, "NatureLM-audio-training")
        shards = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
        if not shards:
            raise SourceError(f"{folder}: no *.parquet; download the shards of NatureLM-audio-training")
        ids = Ids(NAME)
        for shard in shards:
            name = shard.relative_to(folder).as_posix()
            if inside(folder, name) is None:
                yield Failure(NAME, name, "a link to outside the folder; put the file itself there")
                continue
            try:
                with pq.ParquetFile(shard) as file:
                    yield from _shard(file, shard, name, ids)
            except (
                OSError,
                UnicodeDecodeError,
                pa.ArrowException,
            ) as error:  # one of thousands: the others are still good
                yield Failure(NAME, name, f"cannot be read ({_line(error)}); download it again")


def _shard(file: pq.ParquetFile, path: Path, name: str, ids: Ids) -> Iterator[Recording | Failure]:
    columns = file.schema_arrow.names
    missing = [column for column in (*_REQUIRED, "audio") if column not in columns]
    if missing:
        raise SourceError(f"{path}: no column {', '.join(missing)}; it has: {', '.join(columns)}")
    wanted = [*_REQUIRED, *(column for column in _OPTIONAL if column in columns)]
    number = 0
    for group in range(file.num_row_groups):
        row = 0
        for batch in file.iter_batches(_BATCH, row_groups=[group], columns=wanted):
            for fields in batch.to_pylist():
                where = f"{name} row {number}"
                yield _recording(fields, path, group, row, where, ids)
                row += 1
                number += 1


def _recording(
    fields: dict[str, Any], path: Path, group: int, row: int, where: str, ids: Ids
) -> Recording | Failure:
    id, instruction, output = as_text(fields["id"]), fields["instruction"], fields["output"]
    if not id:
        return Failure(NAME, where, "has no id; download the file again")
    if not isinstance(instruction, str) or not instruction.strip():
        return Failure(NAME, where, f"{id} has no instruction; take the row out")
    if not isinstance(output, str) or not output.strip():
        return Failure(NAME, where, f"{id} has no output; take the row out")
    facts = _metadata(fields["metadata"])
    if facts is None:
        return Failure(NAME, where, f"the metadata of {id} is no JSON object; correct the row")
    twice = ids.given_before(id, where)
    if twice is not None:
        return twice
    task, source = as_text(fields.get("task")), as_text(fields.get("source_dataset"))
    kind = _kind(facts, source)
    species = as_text(facts.get("species")) if kind == "animal" else ""
    common_name = _first(facts, "species_common", "common_name", "vernacular_name")
    url = as_text(facts.get("url"))
    original = url or as_text(fields.get("file_name"))
    rate = whole_number(as_text(facts.get("sample_rate")))
    return Recording(
        id=id,
        source=NAME,
        sound=ParquetSound(path, group, row, rate or SAMPLE_RATE),
        file_name=where,
        license=as_text(fields.get("license")) or "unknown",
        kind=kind,
        species=(species,) if species else (),
        common_names=(common_name,) if species and common_name else (),
        caption=output.strip() if "caption" in task.casefold() else as_text(facts.get("text")),
        life_stage=_first(facts, "life_stage", "lifestage", "lifeStage"),
        sex=_first(facts, "sex", "gender"),
        call_types=listed_words(_first(facts, "call_type", "vocalization_type", "type")),
        duration=as_seconds(facts.get("duration")) or None,
        recordist=as_text(facts.get("recordist")),
        group=f"{source or as_text(facts.get('source'))}:{original}" if original else "",
        region=_first(facts, "country", "region"),
        date=iso_date(as_text(facts.get("date"))),
        url=url,
        instruction=instruction,
        answer=output,
    )


def _metadata(text: object) -> dict[str, Any] | None:
    """The row's metadata; None if it is not a JSON object. A row without any has none to be wrong."""
    if text is None or text == "":
        return {}
    if not isinstance(text, str):
        return text if isinstance(text, dict) else None
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _kind(facts: dict[str, Any], source: str) -> Kind:
    category = as_text(facts.get("data_category")).casefold()
    if category == "animal":
        return "animal"
    about = f"{category} {source.casefold()}"
    if any(word in about for word in _SPEECH):
        return "speech"
    if any(word in about for word in _MUSIC):
        return "music"
    return "animal" if as_text(facts.get("species")) else "environment"


def _first(facts: dict[str, Any], *names: str) -> str:
    return next((text for text in (as_text(facts.get(name)) for name in names) if text), "")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
