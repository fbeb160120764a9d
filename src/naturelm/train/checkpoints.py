"""Checkpoints of a run: whole or not there, and the newest few."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from naturelm.train.options import TrainError

PHASES = ("warm-up", "answers")
_NAME = re.compile(r"(warm-up|answers)-(\d{6,})")
_ASIDE = ".saving"


@dataclass(frozen=True, order=True)
class RunCheckpoint:
    """One complete checkpoint; later ones are greater."""

    phase_number: int
    step: int
    folder: Path

    @property
    def phase(self) -> str:
        """`warm-up` or `answers`."""
        return PHASES[self.phase_number]


def staging_folder(checkpoints: Path) -> Path:
    """Where a checkpoint is written before it gets its name."""
    return checkpoints / _ASIDE


def clear_staging(checkpoints: Path) -> None:
    """Remove what a killed process left half written."""
    shutil.rmtree(checkpoints / _ASIDE, ignore_errors=True)


def settle_checkpoint(staging: Path, checkpoints: Path, phase: str, step: int, keep: int) -> Path:
    """Give the one folder inside `staging` its name, then remove all but the newest `keep`."""
    (written,) = staging.iterdir()
    for path in written.rglob("*"):
        if path.is_file():
            _flush(path)
    final = checkpoints / f"{phase}-{step:06d}"
    if final.exists():  # the same step again, after a resume
        shutil.rmtree(final)
    written.rename(final)
    _flush(checkpoints)
    for old in list_checkpoints(checkpoints)[:-keep]:
        shutil.rmtree(old.folder)
    return final


def list_checkpoints(checkpoints: Path) -> list[RunCheckpoint]:
    """Complete checkpoints, the oldest first."""
    found = []
    for folder in checkpoints.glob("*-*") if checkpoints.is_dir() else ():
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append(RunCheckpoint(PHASES.index(match[1]), int(match[2]), folder))
    return sorted(found)


def newest_checkpoint(run: Path) -> RunCheckpoint | None:
    """The checkpoint that training goes on from."""
    found = list_checkpoints(run / "checkpoints")
    return found[-1] if found else None


def require_checkpoint(run: Path) -> RunCheckpoint:
    """As `newest_checkpoint`; TrainError where there is none."""
    newest = newest_checkpoint(run)
    if newest is None:
        raise TrainError(f"{run}: no complete checkpoint in its folder `checkpoints`")
    return newest


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
