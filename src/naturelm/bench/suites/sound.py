"""The sound of a row: a list of floats, or an audio struct with bytes, a path or decoded samples."""

import math

import numpy as np
import pyarrow as pa

from naturelm.audio import AudioInfo, audio_info, read_audio
from naturelm.audio.sources import MAX_RATE, MIN_RATE
from naturelm.bench.suites.files import Files
from naturelm.corpus.recordings import FloatArray
from naturelm.errors import AudioError

LONGEST_SECONDS = 120.0
"""Of a clip that is read: a row that says it is longer is damaged, or meant to fill the memory."""


def sound_of(cell: pa.Scalar, sample_rate: int | None, files: Files, row: str) -> tuple[FloatArray, int]:
    """(samples,) float32 mono in [-1, 1] and its rate in Hz.

    cell: of the column `audio`. sample_rate: Hz, as the row's metadata has it; only samples without a file need it.
    row: named in errors. Raises AudioError where there is no sound, it has no rate, or it is longer than 120 s.
    """
    if not cell.is_valid:
        raise AudioError(f"{row}: its audio is empty; download the data again")
    if pa.types.is_struct(cell.type):
        return _of_struct(cell, sample_rate, files, row)
    if _is_list(cell.type):
        return _of_samples(cell, sample_rate, row)
    if pa.types.is_binary(cell.type) or pa.types.is_large_binary(cell.type):
        return _of_file(cell.as_py(), row)
    raise AudioError(
        f"{row}: its audio is of type {cell.type}; it must be a list of floats or an audio struct"
    )


def _of_struct(cell: pa.Scalar, sample_rate: int | None, files: Files, row: str) -> tuple[FloatArray, int]:
    fields = {field.name for field in cell.type}
    if "bytes" in fields and cell["bytes"].is_valid:
        return _of_file(cell["bytes"].as_py(), row)
    if "array" in fields and cell["array"].is_valid:
        rate = cell["sampling_rate"].as_py() if "sampling_rate" in fields else None
        return _of_samples(cell["array"], sample_rate if rate is None else rate, row)
    name = cell["path"].as_py() if "path" in fields else None
    if not isinstance(name, str) or not name:
        raise AudioError(f"{row}: its audio has neither bytes nor a path; download the data again")
    path = files.beside(name)
    if path is None:
        raise AudioError(f"{row}: its sound {name!r} lies outside the folder of the data; put the file there")
    return _decoded(str(path), row)


def _of_file(content: bytes, row: str) -> tuple[FloatArray, int]:
    return _decoded(content, row)


def _decoded(source: bytes | str, row: str) -> tuple[FloatArray, int]:
    """At the file's own rate."""
    try:
        info: AudioInfo = audio_info(source)
        _check_length(info.duration, row)
        return read_audio(source, sample_rate=info.sample_rate), info.sample_rate
    except AudioError as error:
        raise AudioError(str(error).replace("<bytes>", row)) from error


def _of_samples(cell: pa.Scalar, sample_rate: object, row: str) -> tuple[FloatArray, int]:
    if not isinstance(sample_rate, int | float) or not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(f"{row}: its sample rate is {sample_rate!r}; its metadata must give one in Hz")
    rate = int(sample_rate)
    values = cell.values
    if not _is_list(cell.type) or not (
        pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type)
    ):
        raise AudioError(f"{row}: its samples are no list of numbers but {cell.type}")
    if values.null_count or not len(values):
        raise AudioError(f"{row}: it has no samples, or empty ones; download the data again")
    _check_length(len(values) / rate, row)
    samples = np.asarray(values.to_numpy(zero_copy_only=False), np.float32)
    try:
        # Clipped to full scale and refused where it is not finite, as a file's sound is.
        return read_audio(samples, sample_rate=rate, source_rate=rate), rate
    except AudioError as error:
        raise AudioError(str(error).replace("<array>", row)) from error


def _check_length(seconds: float, row: str) -> None:
    if not math.isfinite(seconds) or seconds > LONGEST_SECONDS:
        raise AudioError(f"{row}: {seconds:,.0f} s long, more than {LONGEST_SECONDS:g} s; cut it into clips")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
