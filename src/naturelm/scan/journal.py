"""What is finished, beside the output: so that a scan that was stopped, however, goes on where it was.

`OUT/journal/scan.json` says with what the scan was begun; `OUT/journal/done` holds one Parquet file for each
finished recording, under the hash of its path, size and time; `OUT/journal/failed` why others could not be read.
Every file is written under another name and renamed, so that what is there is whole.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from naturelm.corpus.storage import write_text
from naturelm.scan.finding import JOURNAL, SCAN_MARK, Found, shown
from naturelm.scan.options import ScanError, Shard
from naturelm.scan.table import RecordingFacts, ScoreWriter, read_facts

_VERSION = 1


@dataclass(frozen=True)
class Failed:
    """A recording that could not be read, or not to its end, and why in one line."""

    path: str
    error: str
    seconds: float = 0.0
    """What was scanned of it, from its beginning."""


class Journal:
    """The journal of the scan in `folder`; nothing is written before `claim`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place = folder / JOURNAL
        self._done = self._place / "done"
        self._failed = self._place / "failed"
        self._known: dict[Path, dict[str, set[Path]]] = {}

    @contextmanager
    def held(self, shard: Shard) -> Iterator[None]:
        """Only one process works on a part of a scan; ScanError where another is at it, or at a part of another cut."""
        refusal = f"{self.folder}: another process is scanning into it; wait for it, or give another folder"
        with self._locked(f".scan-{shard.index}-of-{shard.count}.lock", refusal):
            for lock in self._place.glob(".scan-*-of-*.lock"):
                if not lock.name.endswith(f"-of-{shard.count}.lock"):
                    with self._locked(lock.name, f"{refusal} (it holds {lock.name})"):
                        pass
            if shard.count == 1:
                self.sweep()
            yield

    @contextmanager
    def writing_outputs(self) -> Iterator[None]:
        """Only one process writes the tables; the next waits for it."""
        with self._locked(".outputs.lock", f"{self.folder}: the tables are being written", timeout=600):
            yield

    def claim(
        self, parameters: Mapping[str, Any], labels: list[dict[str, str]], batch_size: int, *, fresh: bool
    ) -> int:
        """Begin, or go on with what was begun with the same parameters.

        parameters: all that the scores follow from but the recordings, as plain values. fresh: throw away what
        was begun with others. batch_size: windows in a batch; returns the one that the scan was begun with.

        ScanError says which parameter differs.
        """
        with self._locked(".claim.lock", f"{self.folder}: is being begun by another process", timeout=60):
            if fresh:
                self._clear()
            mark = self._place / SCAN_MARK
            if mark.is_file():
                begun = self.begun()
                _refuse_changes(self.folder, begun["parameters"], _plain(parameters))
                return int(begun["batch_size"])
            if self._place.exists() and any(self._place.rglob("*.parquet")):
                raise ScanError(f"{self._place}: its {SCAN_MARK} is missing; give another folder, or --fresh")
            self._done.mkdir(parents=True, exist_ok=True)
            self._failed.mkdir(exist_ok=True)
            begin = {
                "version": _VERSION,
                "parameters": _plain(parameters),
                "labels": labels,
                "batch_size": batch_size,
            }
            write_text(mark, json.dumps(begin, indent=1, ensure_ascii=False) + "\n")
            return batch_size

    def begun(self) -> dict[str, Any]:
        """What `scan.json` says: parameters, labels, batch_size. ScanError where there is none."""
        mark = self._place / SCAN_MARK
        try:
            begun = json.loads(mark.read_text(encoding="utf-8"))
            if begun["version"] != _VERSION or not isinstance(begun["parameters"], dict):
                raise ScanError(f"{mark}: written by another version of naturelm; begin anew with --fresh")
            return {
                "parameters": begun["parameters"],
                "labels": begun["labels"],
                "batch_size": begun["batch_size"],
            }
        except FileNotFoundError as error:
            raise ScanError(f"{self.folder}: no scan was begun there; check the folder") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScanError(f"{mark}: damaged ({error}); begin anew with --fresh") from error

    def is_done(self, recording: Found) -> bool:
        """Whether the recording, as it is on disk now, is finished."""
        return self._file(recording).is_file()

    def writer(self, recording: Found) -> ScoreWriter:
        """Where the recording's scores go."""
        return ScoreWriter(self._file(recording), recording.path)

    def finish(self, recording: Found, writer: ScoreWriter, facts: RecordingFacts) -> None:
        """The recording is finished; what was kept of an earlier state of the file goes."""
        writer.finish(facts)
        self._replace(self._done, recording, self._file(recording))
        self._replace(self._failed, recording, None)

    def fail(self, recording: Found, error: str) -> None:
        """Nothing of the recording could be scanned. It is tried again in the next run."""
        stated = json.dumps({"path": shown(recording.path), "error": shown(error)}, ensure_ascii=False)
        path = self._failed / f"{recording.key}.json"
        write_text(path, stated + "\n")
        self._replace(self._failed, recording, path)

    def forget_missing(self, wanted: Iterable[Found]) -> None:
        """Drop failures of what is no longer wanted nor there: a path that was mistyped, a broken file since removed."""
        keys = {recording.path_key for recording in wanted}
        for path in self._failed.glob("[!.]*.json"):
            if path.name.partition("-")[0] not in keys and not Path(_failure(path).path).exists():
                path.unlink(missing_ok=True)

    def accounts_for(self, recording: Found) -> bool:
        """Whether the recording is finished, or known to be unreadable."""
        return self.is_done(recording) or (self._failed / f"{recording.key}.json").is_file()

    def finished(self) -> list[tuple[RecordingFacts, Path]]:
        """The finished recordings and their files of scores, in the order of their paths."""
        known = [(read_facts(path), path) for path in self._done.glob("[!.]*.parquet")]
        return sorted(known, key=lambda entry: entry[0].path)

    def failures(self, finished: Sequence[tuple[RecordingFacts, Path]] | None = None) -> list[Failed]:
        """The recordings that could not be read, or not to their end, in the order of their paths.

        finished: what `finished` gives, if that is known.
        """
        found = [
            Failed(shown(facts.path), shown(facts.failure), facts.seconds)
            for facts, _ in (self.finished() if finished is None else finished)
            if facts.failure
        ]
        for path in self._failed.glob("[!.]*.json"):
            found.append(_failure(path))
        return sorted(set(found), key=lambda failed: failed.path)

    def _replace(self, place: Path, recording: Found, new: Path | None) -> None:
        """Remove what else `place` holds of the recording's path. Whoever holds a part alone writes of its recordings."""
        if place not in self._known:
            # Once, since listing a folder of a hundred thousand files for each of them would take hours.
            known: dict[str, set[Path]] = {}
            for path in place.glob("[!.]*"):
                known.setdefault(path.name.partition("-")[0], set()).add(path)
            self._known[place] = known
        for old in self._known[place].pop(recording.path_key, set()):
            if old != new:
                old.unlink(missing_ok=True)
        if new is not None:
            self._known[place][recording.path_key] = {new}

    def _file(self, recording: Found) -> Path:
        return self._done / f"{recording.key}.parquet"

    def sweep(self) -> None:
        """Remove what a killed process left half-written; for whoever holds the whole scan, with nobody at work."""
        for place in (self._place, self._done, self._failed, self.folder):
            for pattern in (".*.tmp", f".{SCAN_MARK}.*", ".*.json.*"):
                for path in place.glob(pattern):
                    path.unlink(missing_ok=True)

    def _clear(self) -> None:
        self._known.clear()
        (self._place / SCAN_MARK).unlink(missing_ok=True)  # first: what is left half-cleared is then no scan
        for place in (self._done, self._failed):
            if place.exists():
                shutil.rmtree(place)

    @contextmanager
    def _locked(self, name: str, refusal: str, timeout: float = 0) -> Iterator[None]:
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self._place / name)
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            raise ScanError(refusal) from None
        except OSError as error:
            raise ScanError(
                f"{self.folder}: cannot be written to ({error.strerror}); give another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _failure(path: Path) -> Failed:
    try:
        return Failed(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ScanError(f"{path}: damaged ({error}); delete it, and scan again") from error


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that it can be compared."""
    return dict(json.loads(json.dumps(dict(values))))


def _refuse_changes(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in {**begun, **now} if begun.get(key) != now.get(key)]
    if changed:
        said = "; ".join(f"{key} was {_short(begun.get(key))}, is {_short(now.get(key))}" for key in changed)
        raise ScanError(
            f"{folder}: was begun with other parameters ({said}); give another folder, or --fresh to begin anew"
        )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
