"""SPICE, which is a Java program of its own (Anderson et al. 2016) and is run where it and its models are there."""

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from naturelm.bench.published import CAPTIONING, Prediction, PublishedScores, matched_rows

_PACKAGE = "pycocoevalcap"
_PROGRAM = "spice-1.0.jar"
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""What SPICE fetches when it is first run, and what is not fetched here: it is 400 MB from a server of others."""
_LONGEST_SECONDS = 7200


@dataclass(frozen=True)
class SpiceResult:
    """Of each caption, or why there is none."""

    by_row: tuple[float, ...] | None
    note: str = ""


def spice(written: Sequence[str], references: Sequence[str]) -> SpiceResult:
    """SPICE of captions with one reference each, between 0 and 1; a note where it cannot be had. Never raises."""
    java = shutil.which("java")
    if java is None:
        return SpiceResult(None, "SPICE and SPIDEr not computed: no Java; install a Java 8 runtime")
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return SpiceResult(
            None, f"SPICE and SPIDEr not computed: run pip install {_PACKAGE}, then its SPICE once"
        )
    folder = Path(found.submodule_search_locations[0]) / "spice"
    missing = [
        name for name in (_PROGRAM, *(f"lib/{name}" for name in _MODELS)) if not (folder / name).is_file()
    ]
    if missing:
        return SpiceResult(
            None,
            f"SPICE and SPIDEr not computed: {folder} lacks {missing[0]}; run {_PACKAGE}'s SPICE once to fetch it",
        )
    try:
        return SpiceResult(_run(java, folder / _PROGRAM, written, references))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        said = getattr(error, "stderr", None) or str(error)
        last = (str(said).strip().splitlines() or [type(error).__name__])[-1][:200]
        return SpiceResult(
            None, f"SPICE and SPIDEr not computed: the program failed ({last}); it needs Java 8"
        )


def with_spice(
    scores: Sequence[PublishedScores], rows: Sequence[Prediction]
) -> tuple[list[PublishedScores], str]:
    """Published scores with SPICE and SPIDEr of captions, and the note that says why they are missing, if they are."""
    found, note = [], ""
    for of in scores:
        if of.task == CAPTIONING:
            own = [row for row in rows if row.dataset_name == of.dataset_name]
            written = matched_rows(of.dataset_name, of.task, own)
            result = spice(["" if row.failed else text for row, text in zip(own, written, strict=True)],
                           [row.label for row in own])  # fmt: skip
            note = result.note
            if result.by_row is not None:
                mean = sum(result.by_row) / len(own)
                more = {"SPICE": mean, "SPIDEr": (of.metrics["CIDEr"] / 10 + mean) / 2}
                of = replace(of, metrics={**of.metrics, **more})  # noqa: PLW2901
        found.append(of)
    return found, note


def _run(java: str, program: Path, written: Sequence[str], references: Sequence[str]) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"image_id": number, "test": text, "refs": [reference]}
            for number, (text, reference) in enumerate(zip(written, references, strict=True))
        ]
        (folder / "in.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / "cache").mkdir()
        subprocess.run(
            [
                java, "-Xmx8G", "-jar", str(program), str(folder / "in.json"), "-cache", str(folder / "cache"),
                "-out", str(folder / "out.json"), "-subset", "-silent",
            ],
            check=True, capture_output=True, text=True, timeout=_LONGEST_SECONDS, cwd=program.parent,
        )  # fmt: skip
        scored = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    by_number = {int(row["image_id"]): float(row["scores"]["All"]["f"]) for row in scored}
    if set(by_number) != set(range(len(written))):
        raise ValueError(f"{len(by_number)} scores of {len(written)} captions")
    # An empty caption and reference have no tuples to compare: the program says NaN, the published evaluator counts 0.
    return tuple(
        0.0 if math.isnan(by_number[number]) else by_number[number] for number in range(len(written))
    )
