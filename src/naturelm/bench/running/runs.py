"""The folder of a run: what was asked, of whom, with what, and the journals of all variants.

`run.json` says what the run is; `predictions.jsonl` has the answers to the suite's own questions, and
`predictions-NAME.jsonl` those to other wordings and orders of options.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from naturelm.bench.models.base import BenchModel, ModelInfo
from naturelm.bench.published import TASKS
from naturelm.bench.running.journal import RunError, RunRow, read_journal
from naturelm.bench.running.prompts import OWN, Variant, asked_rows
from naturelm.bench.running.runner import RunCount, RunOptions, ask_rows
from naturelm.bench.suites.suite import Suite
from naturelm.corpus.storage import write_text

RUN_FILE = "run.json"
_PREDICTIONS = "predictions"
_PACKAGES = (
    "naturelm", "numpy", "torch", "transformers", "pyarrow", "soundfile", "soxr", "peft", "ai-edge-litert", "datasets",
)  # fmt: skip


@dataclass(frozen=True)
class RunRequest:
    """What is asked of whom; a run goes on only under the same."""

    model: str
    """As it was named on the command line."""
    suite: str
    data: str
    """Folder, or repository and commit."""
    components: tuple[str, ...]
    limit: int | None
    sample: int | None
    seed: int
    wordings: tuple[str, ...]
    orders: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the system, such as its merging alpha."""
    batch_size: int = 32


@dataclass(frozen=True)
class Run:
    """A run that is read."""

    folder: Path
    about: Mapping[str, Any]
    """What `run.json` says."""
    rows: tuple[RunRow, ...]
    """To the suite's own questions."""
    variants: Mapping[str, tuple[RunRow, ...]]
    """To all other ways to put them, by name; each has all rows."""

    @property
    def name(self) -> str:
        """For tables: the folder's name."""
        return self.folder.resolve().name

    @property
    def tasks(self) -> Mapping[str, str]:
        """How each component is scored."""
        return dict(self.about["tasks"])

    @property
    def finished(self) -> bool:
        """Whether all rows were asked."""
        return bool(self.about.get("finished"))


def run_suite(
    model: BenchModel,
    suite: Suite,
    out: Path,
    request: RunRequest,
    variants: Sequence[Variant],
    options: RunOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunCount:
    """Ask all questions in all ways, or what is left of them. Returns what was done, summed over the variants.

    progress: told how many answers of how many are there. Raises RunError where the folder holds another run or cannot
    be written, and as `ask_rows` does.
    """
    about = _about(model.info, suite, request, variants)
    _begin(out, about)
    labels = [suite.closed_set(row) for row in suite.rows]
    plans = [(variant, asked_rows(variant, suite.rows, labels)) for variant in variants]
    total, before = sum(len(asked) for _, asked in plans), 0
    counts = []

    def advance(done: int, _: int) -> None:
        progress(before + done, total)

    for variant, asked in plans:
        counts.append(
            ask_rows(
                model,
                suite,
                asked,
                journal_path(out, variant.name),
                options,
                progress=advance,
            )
        )
        before += len(asked)
    _end(out, model.info)
    return RunCount(
        rows=sum(count.rows for count in counts),
        asked=sum(count.asked for count in counts),
        failed=sum(count.failed for count in counts),
        seconds=sum(count.seconds for count in counts),
        waiting=sum(count.waiting for count in counts),
    )


def journal_path(out: Path, variant: str) -> Path:
    """Where the answers to a variant are."""
    return out / (f"{_PREDICTIONS}.jsonl" if variant == OWN else f"{_PREDICTIONS}-{variant}.jsonl")


def _about(info: ModelInfo, suite: Suite, request: RunRequest, variants: Sequence[Variant]) -> dict[str, Any]:
    first_prompts = {row.dataset_name: row.prompt for row in reversed(suite.rows)}
    return {
        "request": json.loads(json.dumps(asdict(request))),
        "system": asdict(info),
        "rows": len(suite.rows),
        "data_sha256": suite.fingerprint,
        "tasks": dict(suite.tasks),
        "prompts": first_prompts,
        "variants": [{"name": of.name, "template": of.template, "order": of.order} for of in variants],
        "faults": list(suite.faults[:100]),
        "absent": list(suite.absent),
        "versions": _versions(),
        "started": _now(),
        "resumed": [],
        "finished": "",
    }


_SAME = ("request", "system", "rows", "data_sha256")
"""What a run that goes on must have in common with what is there."""


def _begin(out: Path, about: dict[str, Any]) -> None:
    """Write what the run is, or find that the folder has the same."""
    path = out / RUN_FILE
    if path.exists():
        there = _read_about(path)
        other = next(
            (key for key in _SAME if _compared(key, there.get(key)) != _compared(key, about[key])), None
        )
        if other is not None:
            raise RunError(
                f"{out}: holds another run, whose {other} differs ({_difference(there.get(other), about[other])}); "
                "choose another folder"
            )
        about = (
            {**there, "resumed": [*there.get("resumed", []), _now()]} if not there.get("finished") else there
        )
    elif out.exists() and any(out.glob(f"{_PREDICTIONS}*.jsonl")):
        raise RunError(f"{out}: has predictions but no {RUN_FILE}; choose another folder")
    _write(path, about)


def _compared(key: str, value: object) -> object:
    """Of a system, name and revision: what is noted of it can grow while it is asked."""
    if key != "system" or not isinstance(value, dict):
        return value
    return {name: value.get(name) for name in ("name", "revision")}


def _difference(there: object, here: object) -> str:
    if not isinstance(there, dict) or not isinstance(here, dict):
        return f"{_short(there)} there, {_short(here)} here"
    key = next(key for key in here if there.get(key) != here[key])
    return f"{key}: {_short(there.get(key))} there, {_short(here[key])} here"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _end(out: Path, info: ModelInfo) -> None:
    about = _read_about(out / RUN_FILE)
    if not about.get("finished"):
        _write(out / RUN_FILE, {**about, "system": asdict(info), "finished": _now()})


def _write(path: Path, about: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); choose another folder") from error


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{path.parent}: no {RUN_FILE}; give the folder of a run of `naturelm bench run`"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}); run again in another folder") from error
    wrong = _wrong(about)
    if wrong:
        raise RunError(f"{path}: says nothing of a run ({wrong}); run again in another folder")
    return dict(about)


def _wrong(about: object) -> str:
    """What is wrong with the contents of `run.json`, which may be anyone's; empty for nothing."""
    if not isinstance(about, dict):
        return "no JSON object"
    tasks = about.get("tasks")
    if not isinstance(tasks, dict) or not tasks or not set(map(str, tasks.values())) <= set(TASKS.values()):
        return "its tasks are no components with how each is scored"
    kinds = {
        "request": dict, "system": dict, "versions": dict, "variants": list, "absent": list, "resumed": list, "rows": int,
    }  # fmt: skip
    odd = next((key for key, kind in kinds.items() if not isinstance(about.get(key, kind()), kind)), "")
    if odd:
        return f"its {odd} is a {type(about[odd]).__name__}"
    texts = [*about.get("system", {}).values(), *about.get("resumed", []), *about.get("absent", [])]
    settings = about.get("request", {}).get("settings", {})
    if not all(isinstance(text, str) for text in texts) or not isinstance(settings, dict):
        return "a text in it is none"
    return ""


def read_run(folder: Path) -> Run:
    """A run, finished or not. Raises RunError for what is none, or has no answer yet."""
    about = _read_about(folder / RUN_FILE)
    rows = read_journal(journal_path(folder, OWN))
    if not rows:
        raise RunError(f"{folder}: has no answer yet; go on with it by the command that began it")
    strange = next((row.dataset_name for row in rows if row.dataset_name not in about["tasks"]), None)
    if strange is not None:
        raise RunError(
            f"{folder}: has rows of {strange[:80]!r}, of which {RUN_FILE} says nothing; run again elsewhere"
        )
    by_name: dict[str, dict[tuple[str, str], RunRow]] = {OWN: _by_key(rows)}
    for variant in about.get("variants", []):
        name = str(variant.get("name", "")) if isinstance(variant, dict) else ""
        if name == OWN or not name.replace("-", "").isalnum():
            continue
        path = journal_path(folder, name)
        asked = _by_key(read_journal(path)) if path.exists() else {}
        # What a variant leaves as it was, it did not ask again.
        before = by_name.get(name.rpartition("-order")[0] or OWN, by_name[OWN])
        by_name[name] = {key: asked.get(key, row) for key, row in before.items()}
    variants = {name: tuple(of.values()) for name, of in by_name.items() if name != OWN}
    return Run(folder, about, tuple(rows), variants)


def _by_key(rows: Sequence[RunRow]) -> dict[tuple[str, str], RunRow]:
    return {(row.dataset_name, row.id): row for row in rows}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": f"{sys.platform} {os.uname().machine}"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
