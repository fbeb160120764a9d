"""Windows as points: embeddings of what an ear hears, in one Parquet file."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.audio.sources import FloatArray
from naturelm.errors import NatureLMError
from naturelm.scan.finding import Found, look_at, shown
from naturelm.scan.journal import Failed
from naturelm.scan.opening import BIRDNET
from naturelm.scan.options import CutOptions, ScanError
from naturelm.scan.reading import Closed, GroupEnd, Opened, Piece, ahead, read_groups

_MADE_WITH = b"naturelm.embeddings"
_BATCH = 16
_ROWS_PER_GROUP = 4096


class Embedder(Protocol):
    """What makes embeddings. model: its name; revision: of its weights. sample_rate: Hz. default_window: s."""

    model: str
    revision: str
    sample_rate: int
    default_window: float
    longest_window: float
    size: int

    def embed(self, windows: Sequence[FloatArray]) -> FloatArray:
        """(samples,) float32 windows at `sample_rate`, none all zeros, to (windows, size) float32."""
        ...


@dataclass(frozen=True)
class MadeWith:
    """How a file of embeddings was made, so that examples can be heard in the same way."""

    model: str
    revision: str
    window: float
    hop: float | None
    mean: bool


@dataclass(frozen=True)
class EmbedReport:
    """What was embedded: rows, recordings, and those that could not be read to their end."""

    rows: int
    recordings: int
    failures: tuple[Failed, ...]


class BirdNetEmbedder:
    """BirdNET's 1,024 numbers before its last layer; of a window longer than 3 s the mean."""

    model = BIRDNET
    revision = "2.4"
    longest_window = 600.0

    def __init__(self) -> None:
        from naturelm.model.birdnet import BirdNetConfig, BirdNetEar

        self._ear = BirdNetEar(BirdNetConfig())
        self._ear.graph.labels  # noqa: B018  # says at once if BirdNET is not fetched
        self.sample_rate = self._ear.config.sampling_rate
        self.size = self._ear.config.hidden_size
        self.default_window = 3.0

    def embed(self, windows: Sequence[FloatArray]) -> FloatArray:
        """See `Embedder.embed`."""
        return np.stack([self._ear.hear(samples).mean(0) for samples in windows])


class EarEmbedder:
    """The mean of the frames that a NatureLM's ear hears."""

    def __init__(self, source: str, device: str | None = None) -> None:
        from naturelm.answer.engine import NatureLM

        self._naturelm = NatureLM.from_pretrained(source, device=device)
        config = self._naturelm.model.config
        self.model = source
        self.revision = self._naturelm.revision
        self.sample_rate = self._naturelm.sampling_rate
        self.default_window = float(config.clip_seconds)
        self.longest_window = float(config.max_clip_seconds)
        self.size = int(config.audio_config.hidden_size)

    def embed(self, windows: Sequence[FloatArray]) -> FloatArray:
        """See `Embedder.embed`."""
        import torch

        model = self._naturelm.model
        batch = self._naturelm.processor.feature_extractor(list(windows))
        with torch.no_grad():
            heard = model.ear(
                batch["input_values"].to(model.device), ~batch["input_features_mask"].to(model.device)
            )
            mask = heard.frame_mask.unsqueeze(-1)
            frames = heard.last_hidden_state.float().masked_fill(~mask, 0)
            means: FloatArray = (frames.sum(1) / mask.sum(1).clamp_min(1)).cpu().numpy()
        return means


def open_embedder(model: str, device: str | None = None) -> Embedder:
    """`birdnet`, or the ear of whatever `NatureLM.from_pretrained` takes. Raises CheckpointError."""
    return BirdNetEmbedder() if model == BIRDNET else EarEmbedder(model, device)


def embed_recordings(
    recordings: Sequence[Found],
    embedder: Embedder,
    cut: CutOptions,
    out: Path,
    *,
    mean: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> EmbedReport:
    """Write the embeddings of all windows that hold sound; mean: one a recording, of all of its windows.

    Columns: recording, window, start (s), end (s), embedding (size float32). The file is there whole or not at all.
    progress: called with the recordings that are done. Raises ScanError where it cannot be written, or a window is
    too long for the embedder.
    """
    if cut.window > embedder.longest_window:
        raise ScanError(
            f"--window: {cut.window:g} s; {embedder.model} takes at most {embedder.longest_window:g} s"
        )
    made = MadeWith(embedder.model, embedder.revision, cut.window, cut.hop, mean)
    temporary = out.with_name(f".{out.name}.tmp")
    failures: list[Failed] = []
    rows = done = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        schema = embedding_schema(embedder.size, made)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            waiting: list[tuple[Any, ...]] = []
            for found in _embedded(recordings, embedder, cut, mean):
                if isinstance(found, Closed):
                    done += 1
                    if found.failure:
                        failures.append(Failed(shown(found.recording.path), shown(found.failure)))
                    progress(done)
                    continue
                rows += 1
                waiting.append(found)
                if len(waiting) == _ROWS_PER_GROUP:
                    writer.write_table(_table(waiting, schema))
                    waiting = []
            if waiting:
                writer.write_table(_table(waiting, schema))
        temporary.replace(out)
    except OSError as error:
        raise ScanError(f"{out}: cannot be written ({error.strerror}); give another name") from error
    finally:
        temporary.unlink(missing_ok=True)
    return EmbedReport(rows, done - len(failures), tuple(failures))


def embed_example(path: Path, embedder: Embedder, window: float) -> FloatArray:
    """Embeddings of the windows of one example clip, (windows, size). NatureLMError where it holds no sound."""
    found = look_at(str(path), str(path.parent))
    rows, failure = [], ""
    for each in _embedded([found], embedder, CutOptions(window), False):
        if isinstance(each, Closed):
            failure = each.failure
        else:
            rows.append(each[4])
    if failure or not rows:
        raise NatureLMError(failure or f"{path}: nothing but silence; give another example")
    return np.stack(rows)


def read_made_with(path: Path) -> MadeWith:
    """How a file of embeddings was made. ScanError where it is none."""
    try:
        with pq.ParquetFile(path) as file:
            return MadeWith(**json.loads(file.schema_arrow.metadata[_MADE_WITH]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ScanError(
            f"{path}: not a file of embeddings ({error}); make one with naturelm embed"
        ) from error


def read_embeddings(path: Path) -> Iterator[tuple[pa.Table, FloatArray]]:
    """The rows without, and (rows, size) float32 with their embeddings, a bounded number at a time."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                column = table.column("embedding").combine_chunks()
                values = column.flatten().to_numpy().reshape(len(table), -1)
                yield table.drop_columns("embedding"), values
    except (OSError, pa.ArrowException) as error:
        raise ScanError(f"{path}: cannot be read ({error}); make it again with naturelm embed") from error


def embedding_schema(size: int, made: MadeWith) -> pa.Schema:
    """Columns of a file of embeddings of so many numbers."""
    return pa.schema(
        [
            ("recording", pa.string()),
            ("window", pa.int32()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("embedding", pa.list_(pa.float32(), size)),
        ],
        metadata={_MADE_WITH: json.dumps(asdict(made))},
    )


def _embedded(
    recordings: Sequence[Found], embedder: Embedder, cut: CutOptions, mean: bool
) -> Iterator[Closed | tuple[str, int, float, float, FloatArray]]:
    """Rows in the order of recordings and windows, and the end of each recording."""
    pieces: list[Piece] = []
    with ahead(read_groups([tuple(recordings)], cut, embedder.sample_rate), 2 * _BATCH) as items:
        kept: list[tuple[str, int, float, float, FloatArray]] = []
        name = ""
        for item in items:
            if isinstance(item, Opened):
                name = shown(item.recording.path)
            elif isinstance(item, Piece) and item.unheard is None:
                pieces.append(item)
            if pieces and (len(pieces) == _BATCH or isinstance(item, Closed)):
                values = embedder.embed([piece.samples for piece in pieces])
                kept += [
                    (name, p.index, p.start, p.end, value) for p, value in zip(pieces, values, strict=True)
                ]
                pieces = []
                if not mean:
                    yield from kept
                    kept = []
            if isinstance(item, Closed):
                if kept:
                    yield name, 0, kept[0][2], kept[-1][3], np.mean([row[4] for row in kept], axis=0)
                    kept = []
                yield item
            elif isinstance(item, GroupEnd):
                continue


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    recording, window, start, end, embeddings = zip(*rows, strict=True)
    flat = pa.array(np.concatenate(embeddings).astype(np.float32))
    column = pa.FixedSizeListArray.from_arrays(flat, schema.field("embedding").type.list_size)
    columns = [
        pa.array(values, schema.field(i).type) for i, values in enumerate((recording, window, start, end))
    ]
    return pa.Table.from_arrays([*columns, column], schema=schema)
