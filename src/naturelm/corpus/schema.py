"""Columns of a corpus: those of the BEANS-Zero benchmark, and beside them where each pair came from.

One schema serves training and held-out pairs. `audio` is the struct that `datasets` calls an audio
feature; its bytes are a FLAC file, 16 kHz mono, 16 bits.
"""

import json
from dataclasses import dataclass, fields

import pyarrow as pa

SCHEMA_VERSION = 1
SPLITS = ("train", "validation", "test")
NONE_ANSWER = "None"
"""The answer of a detection question when nothing that is asked for can be heard."""


@dataclass(frozen=True)
class Pair:
    """One instruction and its answer about one clip: a row of a corpus."""

    id: str
    audio: bytes
    """A FLAC file: 16 kHz, mono, 16 bits."""
    file_name: str
    """Name for the clip, `<id>.flac`."""
    dataset_name: str
    """The component that a held-out row is scored under; for training rows, the task's name."""
    source_dataset: str
    """Sources of the sounds, joined by `+`."""
    task: str
    """Name of the task that worded the pair, such as `species-common`."""
    instruction: str
    """The prompt, with `<Audio><AudioHere></Audio>` where the clip goes."""
    instruction_text: str
    """The prompt alone."""
    output: str
    """The answer."""
    options: tuple[str, ...]
    """What the prompt offers to choose from, in the order it does; empty for an open question."""
    labels: tuple[str, ...]
    """The answer in parts, as scored: empty when it is `None`, one sentence for a caption."""
    taxa: tuple[str, ...]
    """Accepted scientific names of every animal that was put into the clip."""
    recordings: tuple[str, ...]
    """`source:id` of every recording that is heard in the clip, noise included."""
    source_files: tuple[str, ...]
    """`source:file name` of each of `recordings`."""
    groups: tuple[str, ...]
    """`source:group` of each of `recordings`: what never stands in two splits."""
    recordists: tuple[str, ...]
    """Who recorded each of `recordings`; empty text where it is not known."""
    license: str
    """Licences of the sounds, each once, joined by ` + `."""
    created_at: str
    split: str
    """One of `SPLITS`."""
    duration: float
    """Seconds."""
    metadata: str
    """JSON text: `sample_rate`, and what the task and the scene know (see docs/corpus.md)."""

    def details(self) -> dict[str, object]:
        """The metadata, read."""
        return dict(json.loads(self.metadata))


_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_LISTS = ("options", "labels", "taxa", "recordings", "source_files", "groups", "recordists")
# `datasets` reads the features from here; decode=False because its own decoder needs torchcodec.
_HUGGING_FACE = json.dumps(
    {
        "info": {
            "features": {
                field.name: (
                    {"_type": "Audio", "sampling_rate": 16000, "decode": False}
                    if field.name == "audio"
                    else {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}}
                    if field.name in _LISTS
                    else {"_type": "Value", "dtype": "float32" if field.name == "duration" else "string"}
                )
                for field in fields(Pair)
            }
        }
    }
)


def _arrow_type(name: str) -> pa.DataType:
    if name == "audio":
        return _AUDIO
    if name in _LISTS:
        return pa.list_(pa.string())
    return pa.float32() if name == "duration" else pa.string()


PAIR_SCHEMA = pa.schema(
    [(field.name, _arrow_type(field.name)) for field in fields(Pair)],
    metadata={"huggingface": _HUGGING_FACE, "naturelm_schema": str(SCHEMA_VERSION)},
)
"""Arrow schema of every shard."""


def pairs_to_table(pairs: list[Pair]) -> pa.Table:
    """Rows of a shard."""
    columns = {
        field.name: [
            {"bytes": pair.audio, "path": pair.file_name}
            if field.name == "audio"
            else getattr(pair, field.name)
            for pair in pairs
        ]
        for field in fields(Pair)
    }
    return pa.table(columns, schema=PAIR_SCHEMA)


def row_to_pair(row: dict[str, object]) -> Pair:
    """A row, as `pyarrow.Table.to_pylist` gives it."""
    values: dict[str, object] = dict(row)
    audio = values["audio"]
    values["audio"] = audio["bytes"] if isinstance(audio, dict) else audio
    for name in _LISTS:
        values[name] = tuple(values[name] or ())  # type: ignore[arg-type]
    return Pair(**values)  # type: ignore[arg-type]
