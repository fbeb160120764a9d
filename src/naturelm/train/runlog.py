"""What a run tells of itself: the facts in `run.json`, and the log, one JSON object a line, in `log.jsonl`.

Both outlive a kill at any moment. The facts are written whole or not at all; the log is only ever added to, and
a line of it that was cut short is left out by who reads it, and cut off by who goes on writing.
"""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from naturelm.corpus.storage import write_text
from naturelm.settings import SettingError, validated
from naturelm.train.options import TrainError

FACTS = "run.json"
LOG = "log.jsonl"
State = Literal["running", "finished", "stopped", "failed"]
_PACKAGES = ("naturelm", "torch", "transformers", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class Gpu:
    """One accelerator."""

    name: str
    memory: int
    """Bytes."""


@dataclass(frozen=True)
class Hardware:
    """A machine, as one process of a run sees it."""

    cpu: str
    """The processor's name as the system gives it."""
    cores: int
    """How many this process may use."""
    memory: int | None
    """Bytes of main memory; None where the system does not say."""
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class CorpusFacts:
    """A corpus that a run learns from."""

    name: str
    manifest_hash: str
    """Of its `corpus.json`, so that another build of the same name is told apart."""
    rows: int
    """Training pairs."""


@dataclass(frozen=True)
class Resumption:
    """A moment at which a run went on after it had been stopped."""

    time: str
    """ISO 8601, UTC."""
    phase: str
    step: int
    """The last step before, of this phase: that of the checkpoint it went on from."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run beside its numbers. Changed by `dataclasses.replace` and written again."""

    name: str
    started: str
    """ISO 8601, UTC."""
    command: tuple[str, ...]
    processes: int
    hardware: Hardware
    """Of the first process."""
    versions: dict[str, str]
    corpora: tuple[CorpusFacts, ...] = ()
    planned_steps: dict[str, int] = field(default_factory=dict)
    """By phase, in their order."""
    task_shares: dict[str, float] = field(default_factory=dict)
    """By task, the share of all pairs that the options ask for, 0 to 1; empty if not known."""
    source_shares: dict[str, float] = field(default_factory=dict)
    """The same by source."""
    resumed: tuple[Resumption, ...] = ()
    state: State = "running"
    finished: str | None = None
    """ISO 8601, UTC; also of a run that was stopped or failed."""
    reason: str | None = None
    """Why it was stopped or failed, in one line."""


def write_facts(folder: Path, facts: RunFacts) -> None:
    """Write `run.json`, whole or not at all. TrainError if the folder cannot be written."""
    path = folder / FACTS
    try:
        write_text(path, json.dumps(_plain(asdict(facts)), indent=1) + "\n")
    except OSError as error:
        raise TrainError(
            f"{path}: cannot be written ({error.strerror}); make room, or mend the folder"
        ) from error


def read_facts(folder: Path) -> RunFacts:
    """What `run.json` says. TrainError where there is none, or it is not as it must be."""
    path = folder / FACTS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainError(f"{folder}: no {FACTS}; give the folder of a training run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise TrainError(f"{path}: not readable ({error}); give another run") from error
    if not isinstance(values, dict):
        raise TrainError(f"{path}: not the facts of a run; give another run")
    try:
        facts: RunFacts = validated(RunFacts, values)
    except SettingError as error:
        raise TrainError(f"{path}: {error}; give another run, or the version that wrote it") from error
    return facts


class RunLog:
    """The log of a run, to be added to by one process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line in one write; numbers that are not finite become null.

        The file is closed after each line, so whatever happens then, the line is there. What a kill or a full
        disk has left of an earlier line is cut off first. TrainError if the line cannot be written.
        """
        # Only ASCII: an answer that a model wrote may hold code points that have no place in UTF-8.
        data = json.dumps(_plain(line)).encode() + b"\n"
        try:
            _cut_broken_line(self.path)
            with self.path.open("ab", buffering=0) as file:
                while data:  # the first write takes all of it, unless the disk is full
                    data = data[file.write(data) :]
        except OSError as error:
            raise TrainError(
                f"{self.path}: cannot be written ({error.strerror}); make room, and resume the run"
            ) from error


def _cut_broken_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        if file.read() not in {b"", b"\n"}:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log, each with a `kind` and `phase` (str) and a `step` (int); none if there is no log yet.

    Of lines of one kind, phase and step, which a run that was resumed has written twice, the later one is
    returned, in the place of the first. A last line that was cut short is left out. TrainError names the line
    that cannot be read.
    """
    path = folder / LOG
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainError(f"{path}: cannot be read ({error.strerror})") from error
    lines: dict[tuple[str, str, int], dict[str, Any]] = {}
    for number, text in enumerate(data.split(b"\n")[:-1], 1):
        line = _read_line(text)
        if line is None:
            raise TrainError(
                f"{path}: line {number} is not a line of a training log; take it out, or give another run"
            )
        lines[line["kind"], line["phase"], line["step"]] = line
    return list(lines.values())


def _read_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in ("kind", "phase")):
        return None
    step = line.get("step")
    return line if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def _plain(value: Any) -> Any:
    """What JSON can hold of a value: numbers of numpy are plain ones, and those that are not finite are None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def utc_now() -> str:
    """The time as facts have it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware() -> Hardware:
    """This machine: processor, cores that may be used, memory, and the GPUs that torch sees."""
    import torch

    cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    properties = [torch.cuda.get_device_properties(number) for number in cuda]
    return Hardware(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=_memory(),
        gpus=tuple(Gpu(found.name, found.total_memory) for found in properties),
    )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system, or one that does not say
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that training depends on, those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
