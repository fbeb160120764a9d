"""What is checked of each shard and row by itself, and what later checks must know of a row.

Each clip is decoded once. Rows that cannot be read are findings, and the rest of the shard is still read.
"""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.audio import SAMPLE_RATE, audio_info
from naturelm.corpus.findings import ANSWERS, APART, MANIFEST, READABLE, SOUND, Finding, shown
from naturelm.corpus.fingerprint import Fingerprint, fingerprint
from naturelm.corpus.recordings import FloatArray
from naturelm.corpus.schema import NONE_ANSWER, PAIR_SCHEMA, SCHEMA_VERSION, Pair, row_to_pair
from naturelm.corpus.storage import decode
from naturelm.errors import AudioError

_PLACE = "<Audio><AudioHere></Audio>"
_LONGEST = 3600.0  # seconds: a few bytes of hostile FLAC can unpack to days of silence
_DURATION_MARGIN = 0.01  # seconds
_LEAST_SWING = 10 ** (-60 / 20)
_REBUILD = "build the corpus again"
_DAMAGED = (OSError, pa.ArrowException, UnicodeDecodeError)

Problem = tuple[str, str, str]
"""Check, what is wrong, and the cure."""


@dataclass(frozen=True)
class RowFacts:
    """What the checks across rows must know of one."""

    where: str
    split: str
    """That its shard's name says, by which it is read: its own column may be wrong."""
    pair: Pair
    """Without its sound."""
    fingerprint: Fingerprint | None = None
    """None for silence, for generated sound, and where none is wanted."""
    digest: bytes | None = None
    """Of the samples, where too little is heard for a fingerprint to tell copies by."""


@dataclass(frozen=True)
class ShardFacts:
    """What was found in a shard."""

    split: str
    """That its name says."""
    total: int
    """Rows that it says it has."""
    clips: int
    """Rows whose sound could be read."""
    whole: bool
    """Whether every row could be read, but for its sound."""
    rows: tuple[RowFacts, ...]
    findings: tuple[Finding, ...]


def read_shard(path: Path, split: str, *, generated: Collection[str], fingerprints: bool) -> ShardFacts:
    """Read a shard, a row group at a time, and check each row by itself.

    split: that the shard's name says. generated: sources of which no fingerprint is taken.
    """
    try:
        shard = pq.ParquetFile(path)
        fault = _schema_fault(shard)
    except _DAMAGED as error:
        fault = f"not a readable Parquet file ({shown(error)})"
    if fault:
        return ShardFacts(split, 0, 0, False, (), (Finding(READABLE, path.name, fault, _REBUILD),))
    findings: list[Finding] = []
    rows: list[RowFacts] = []
    clips = total = 0
    for group in range(shard.num_row_groups):
        first, total = total, total + shard.metadata.row_group(group).num_rows
        try:
            values = list(_rows_of_group(shard, group))
        except _DAMAGED as error:
            where = f"{path.name} rows {first} to {total - 1}"
            findings.append(Finding(READABLE, where, f"cannot be read ({shown(error)})", _REBUILD))
            continue
        for number, row in enumerate(values, first):
            where = f"{path.name} row {number}"
            fault = row if isinstance(row, str) else _gap(row)
            if fault or isinstance(row, str):
                findings.append(Finding(READABLE, where, fault, _REBUILD))
                continue
            pair = row_to_pair(row)
            where = f"{where} ({shown(pair.id)})"
            problems = [*_described(pair, split), *_answers(pair)]
            facts = RowFacts(where, split, dataclasses.replace(pair, audio=b""))
            try:
                samples = _clip(pair)
            except AudioError as error:
                what = shown(str(error).removeprefix("<bytes>: "))
                problems.append((READABLE, f"its sound cannot be used: {what}", _REBUILD))
                problems.extend(_provenance(pair, silent=None))
            else:
                clips += 1
                problems.extend(_heard(pair, samples))
                problems.extend(_provenance(pair, silent=_swing(samples) == 0))
                if fingerprints and not _all_generated(pair, generated):
                    facts = _recognisable(facts, samples)
            rows.append(facts)
            findings.extend(Finding(check, where, what, cure) for check, what, cure in problems)
    return ShardFacts(split, total, clips, total == len(rows), tuple(rows), tuple(findings))


def _schema_fault(shard: pq.ParquetFile) -> str:
    """What is wrong with a shard's columns; empty if nothing is."""
    schema = shard.schema_arrow
    missing = [name for name in PAIR_SCHEMA.names if name not in schema.names]
    if missing:
        return f"no column {', '.join(missing)}; not a shard of a corpus"
    version = (schema.metadata or {}).get(b"naturelm_schema", b"").decode(errors="replace")
    if version not in {"", str(SCHEMA_VERSION)}:
        return f"its schema is version {shown(version)}, not {SCHEMA_VERSION}"
    return ""


def _rows_of_group(shard: pq.ParquetFile, group: int) -> Iterator[dict[str, object] | str]:
    """Rows of a group; for one that holds text that is not UTF-8, what is wrong with it."""
    table = shard.read_row_group(group, columns=PAIR_SCHEMA.names).select(PAIR_SCHEMA.names)
    table = table.cast(PAIR_SCHEMA)
    for number in range(table.num_rows):
        try:
            yield table.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield f"holds text that is not UTF-8 ({error.reason})"


def _gap(row: dict[str, object]) -> str:
    """Which columns of a row hold nothing; empty if none."""
    audio = row["audio"]
    empty = [
        name
        for name, value in row.items()
        if value is None or (isinstance(value, list) and None in value)
    ]  # fmt: skip
    if isinstance(audio, dict) and audio["bytes"] is None:
        empty.append("audio.bytes")
    return f"nothing stands in {', '.join(empty)}" if empty else ""


def _clip(pair: Pair) -> FloatArray:
    """A pair's sound, (samples,); AudioError where it is not what a corpus holds."""
    info = audio_info(pair.audio)
    if (info.format, info.sample_rate, info.channels) != ("FLAC", SAMPLE_RATE, 1):
        raise AudioError(
            f"{shown(info.format)} at {info.sample_rate} Hz of {info.channels} channels, not mono FLAC at {SAMPLE_RATE} Hz"
        )
    if info.duration > _LONGEST:
        raise AudioError(f"lasts {info.duration:.0f} s; no clip is longer than {_LONGEST:.0f} s")
    return decode(pair)


def _swing(samples: FloatArray) -> float:
    """Half the distance from the lowest to the highest sample: 0 for a constant, whatever its level."""
    return float(samples.max() - samples.min()) / 2


def _heard(pair: Pair, samples: FloatArray) -> Iterator[Problem]:
    duration = len(samples) / SAMPLE_RATE
    if not abs(duration - pair.duration) <= _DURATION_MARGIN:  # a NaN is no duration either
        yield READABLE, f"lasts {duration:.3f} s, but its duration says {pair.duration:.3f} s", _REBUILD
    if pair.output != NONE_ANSWER and _swing(samples) < _LEAST_SWING:
        kind = "silent" if np.abs(samples).max() < _LEAST_SWING else "a constant"
        cure = "take the silent recording out of its archive, or answer None"
        yield SOUND, f"answered {shown(pair.output)!r}, but its clip is {kind}", cure


def _described(pair: Pair, split: str) -> Iterator[Problem]:
    try:
        readable = isinstance(json.loads(pair.metadata), dict)
    except (ValueError, RecursionError):
        readable = False
    if not readable:
        yield READABLE, f"its metadata is no JSON object: {shown(pair.metadata)}", _REBUILD
    if pair.split != split:
        yield MANIFEST, f"its split column says {shown(pair.split)!r} in a shard of {split}", _REBUILD
    if not pair.license.strip():
        yield (
            MANIFEST,
            "no licence is given",
            "state the recording's licence in its archive's metadata, or `unknown`",
        )


def _answers(pair: Pair) -> Iterator[Problem]:
    cure = "mend the task that worded it"
    if not pair.output.strip():
        yield ANSWERS, "its output is empty", cure
    elif pair.output != (", ".join(pair.labels) or NONE_ANSWER):
        yield (
            ANSWERS,
            f"its output {shown(pair.output)!r} is not its labels joined: {shown(list(pair.labels))}",
            cure,
        )
    missing = [label for label in pair.labels if pair.options and label not in pair.options]
    if missing:
        yield ANSWERS, f"not among the options: {shown(', '.join(missing))}", cure
    counts = Counter(option.strip().casefold() for option in pair.options)
    twice = [option for option, count in counts.items() if count > 1]
    if twice:
        yield ANSWERS, f"offered twice: {shown(', '.join(twice))}", cure
    unasked = [option for option in pair.options if not _stands_in(option, pair.instruction_text)]
    if unasked:
        yield ANSWERS, f"options that the instruction does not offer: {shown(', '.join(unasked))}", cure
    places = pair.instruction.count(_PLACE)
    if places != 1:
        yield ANSWERS, f"its instruction holds {_PLACE} {places} times, not once", cure
    if not pair.instruction_text.strip() or pair.instruction_text not in pair.instruction:
        yield ANSWERS, "its instruction does not hold its instruction_text", cure


def _stands_in(phrase: str, text: str) -> bool:
    return bool(phrase.strip()) and re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def _provenance(pair: Pair, *, silent: bool | None) -> Iterator[Problem]:
    """Whether it is known what is heard, without which nothing can be said of leaks.

    silent: None where the sound could not be read.
    """
    lists = ("recordings", "source_files", "groups", "recordists")
    lengths = {name: len(getattr(pair, name)) for name in lists}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in lengths.items())
        yield APART, f"its columns disagree on what is heard: {told}", _REBUILD
    empty = [name for name in lists[:3] if not all(getattr(pair, name))]
    if empty:
        yield APART, f"an entry of its {', '.join(empty)} is empty", _REBUILD
    if silent is False and not pair.recordings:
        yield APART, "has sound, but names no recording that it is from", _REBUILD


def _all_generated(pair: Pair, generated: Collection[str]) -> bool:
    sources = {recording.partition(":")[0] for recording in pair.recordings}
    return bool(sources) and sources <= set(generated)


def _recognisable(facts: RowFacts, samples: FloatArray) -> RowFacts:
    """The facts with a fingerprint, or where that says too little, with a digest; silence has neither."""
    found = fingerprint(samples)
    if found.comparable:
        return dataclasses.replace(facts, fingerprint=found)
    if _swing(samples) < _LEAST_SWING:
        return facts
    return dataclasses.replace(facts, digest=blake2b(samples.tobytes(), digest_size=16).digest())
