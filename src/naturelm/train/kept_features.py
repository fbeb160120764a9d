"""What an ear begins with, kept on disk: a warm-up hears every clip several times, and is small beside its reading.

Reading and decoding a clip and making its filter bank takes a core half as long as the rest of a small ear's step on
it. So the filter bank is written to a file when a clip comes for the first time, and read from there afterwards.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from torch.utils.data import Dataset

from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.storage import Corpus
from naturelm.model.beats import BeatsModel
from naturelm.model.modeling import NatureLMForConditionalGeneration
from naturelm.model.processing import NatureLMProcessor
from naturelm.train.data import Example, Fbank, TrainingRows, Unreadable
from naturelm.train.mixture import source_of

_HEADER = struct.Struct("<III")
"""CRC-32 of what follows, samples, frames."""
HalfArray = npt.NDArray[np.float16]
_NUMBER = np.dtype("<f2")
"""Half precision: a hundredth of a decibel."""


@dataclass(frozen=True)
class FilterBank:
    """Samples to the filter bank that a BEATs ear makes of them.

    Its real patches must not depend on how far a batch is padded (`exact_mask`): here every clip is padded by itself.
    """

    ear: BeatsModel
    processor: NatureLMProcessor

    def __call__(self, samples: FloatArray) -> Fbank:
        """samples: (samples,) float32 at the ear's rate."""
        batch = self.processor.feature_extractor([samples])
        with torch.no_grad():
            fbank = self.ear.normalised_fbank(batch["input_values"])
        return Fbank(fbank[0].numpy(), int(batch["input_features_mask"].sum()))


@contextmanager
def kept_features(
    rows: TrainingRows,
    model: NatureLMForConditionalGeneration,
    processor: NatureLMProcessor,
    path: Path,
    process: PartialState,
) -> Iterator["KeptFeatures"]:
    """Rows whose filter banks are kept in a file at `path`, which begins empty and goes at the end."""
    assert isinstance(model.ear, BeatsModel)
    extract = FilterBank(model.ear, processor)
    if process.is_main_process:
        path.write_bytes(b"")
    process.wait_for_everyone()
    try:
        yield KeptFeatures(rows, extract, path)
    finally:
        if process.is_main_process:
            with suppress(OSError):  # on Windows, while a loader still has it open
                path.unlink()


class KeptFeatures(Dataset[Example | Unreadable]):
    """Rows with the filter bank in place of the samples, rounded to half precision.

    Processes and loaders on one machine, or on one disk, share the file. A record is taken only when its checksum is
    right, so one that is half written is made again. When the disk is full nothing more is kept.
    """

    def __init__(
        self,
        rows: TrainingRows,
        extract: Callable[[FloatArray], Fbank],
        path: Path,
    ) -> None:
        """The file at `path` must be there, empty or of the same rows."""
        self.rows = rows
        self.path = path
        self._extract = extract
        longest = extract(np.zeros(round(rows.clip_seconds * rows.sample_rate), np.float32))
        frames, self._mel_bins = longest.frames.shape
        self._record_bytes = _HEADER.size + frames * self._mel_bins * _NUMBER.itemsize
        self._labels = [labels for corpus in rows.corpora for labels in _labels(corpus)]
        self._file: FileIO | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Example | Unreadable:
        kept = self._read(row)
        if kept is None:
            example = self.rows[row]
            if isinstance(example, Unreadable):
                return example
            made = self._extract(example.samples)
            kept = made.frames.astype(_NUMBER), made.samples
            self._write(row, *kept)
        frames, samples = kept
        return replace(self._labels[row], fbank=Fbank(frames.astype(np.float32), samples))

    def _open(self) -> FileIO:
        # By each process for itself: those that share a handle share its place in the file.
        if self._file is None:
            self._file = FileIO(self.path, "r+")
        return self._file

    def _read(self, row: int) -> tuple[HalfArray, int] | None:
        with suppress(OSError):
            file = self._open()
            file.seek(row * self._record_bytes)
            record = file.read(self._record_bytes) or b""
            if len(record) < _HEADER.size:
                return None
            checksum, samples, frames = _HEADER.unpack_from(record)
            end = _HEADER.size + frames * self._mel_bins * _NUMBER.itemsize
            if samples and end <= len(record) and zlib.crc32(record[4:end]) == checksum:
                fbank: HalfArray = np.frombuffer(record[_HEADER.size : end], _NUMBER)
                return fbank.reshape(frames, self._mel_bins), samples
        return None

    def _write(self, row: int, frames: HalfArray, samples: int) -> None:
        body = struct.pack("<II", samples, len(frames)) + frames.tobytes()
        record = struct.pack("<I", zlib.crc32(body)) + body
        # A disk that has no room for it costs time and nothing else.
        with suppress(OSError):
            file = self._open()
            file.seek(row * self._record_bytes)
            file.write(record)


def _labels(corpus: Corpus) -> list[Example]:
    """Each row without its sound."""
    columns = ("id", "task", "source_dataset", "instruction_text", "output")
    table = corpus.table(columns)
    nothing = np.zeros(0, np.float32)
    return [
        Example(identity, task, source_of(source), question, answer, nothing)
        for identity, task, source, question, answer in zip(
            *(table[column].to_pylist() for column in columns), strict=True
        )
    ]
