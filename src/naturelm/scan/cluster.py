"""A scan spread over a Ray cluster: one task for each group of recordings, the same journal, the same result.

The folder of the results and the recordings must be reachable from every machine under the same paths. What a
task finishes is in the journal at once, so that a lost worker costs its current recordings alone: Ray runs the task
again elsewhere, and what it had finished is not done twice.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from naturelm.errors import NatureLMError
from naturelm.scan.finding import Found, grouped
from naturelm.scan.journal import Journal
from naturelm.scan.listening import Listener
from naturelm.scan.options import CutOptions, ScanError, Shard
from naturelm.scan.run import Progress, ScanReport, check_window, scan_groups, scan_parameters

_RETRIES = 3
_WAIT = 0.5  # s; how soon Ctrl-C is noticed


class Engine(Protocol):
    """A listener that can be opened on another machine: hashable, picklable."""

    @property
    def device(self) -> str | None: ...

    def __hash__(self) -> int: ...

    def open(self) -> Listener: ...


def scan_on_cluster(
    recordings: Sequence[Found],
    engine: Engine,
    listener: Listener,
    cut: CutOptions,
    folder: Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    fresh: bool = False,
    batch_size: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ScanReport:
    """As `scan_recordings`, with the groups of recordings spread over a cluster.

    engine: opened by every worker. listener: opened of it here, to say what the scores depend on.
    address: of the cluster; None is the one that RAY_ADDRESS names, or else this machine alone. workers: processes,
    where this machine is all there is; None: one for each core. Once `stop` says yes, the groups at work are finished.

    Raises ScanError as `scan_recordings` does, and where a group is lost again and again.
    """
    # Ray would report to its makers that and how it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    journal = Journal(folder)
    check_window(listener, cut)
    began = time.monotonic()
    with journal.held(Shard()):
        size = journal.claim(
            scan_parameters(listener, cut),
            [dict(vars(label)) for label in listener.labels],
            batch_size or listener.batch_size,
            fresh=fresh,
        )
        todo = [group for group in grouped(recordings) if not all(map(journal.is_done, group))]
        missing = [recording for group in todo for recording in group if not journal.is_done(recording)]
        alone = address is None
        ray.init(
            address=address,
            num_cpus=workers if alone else None,
            log_to_driver=False,
            ignore_reinit_error=True,
        )
        try:
            gpus = 1 if (engine.device or "").startswith("cuda") else 0
            remote = ray.remote(max_retries=_RETRIES, num_cpus=1, num_gpus=gpus)(_scan_group)
            reports = _spread(
                ray, remote, todo, (engine, cut, folder.absolute(), size), stop, progress, missing, began
            )
        finally:
            if alone:
                ray.shutdown()
        journal.sweep()  # what a lost worker left
        journal.forget_missing(recordings)
        complete = all(map(journal.accounts_for, recordings))
    return ScanReport(
        done=sum(report.done for report in reports),
        failed=sum(report.failed for report in reports),
        earlier=len(recordings) - len(missing),
        windows=sum(report.windows for report in reports),
        unheard=sum(report.unheard for report in reports),
        seconds=sum(report.seconds for report in reports),
        elapsed=time.monotonic() - began,
        interrupted=stop(),
        complete=complete,
    )


def _spread(
    ray: Any,
    remote: Any,
    groups: Sequence[tuple[Found, ...]],
    shared: tuple[Any, ...],
    stop: Callable[[], bool],
    progress: Callable[[Progress], None],
    missing: Sequence[Found],
    began: float,
) -> list[ScanReport]:
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = list(reversed(groups))
    running: list[Any] = []
    reports: list[ScanReport] = []
    while running or (waiting and not stop()):
        while waiting and len(running) < most and not stop():
            running.append(remote.remote(waiting.pop(), *shared))
        finished, running = ray.wait(running, timeout=_WAIT)
        reports += [_result(ray, each) for each in finished]
        if finished:
            done = sum(report.done + report.failed for report in reports)
            total = sum(max(recording.size, 0) for recording in missing)
            seconds = sum(report.seconds for report in reports)
            share = done / max(1, len(missing))
            progress(
                Progress(done, len(missing), round(share * total), total, seconds, time.monotonic() - began)
            )
    return reports


def _result(ray: Any, task: Any) -> ScanReport:
    try:
        report: ScanReport = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NatureLMError):
            raise ScanError(str(error.cause)) from error
        raise
    except ray.exceptions.RayError as error:
        cause = " ".join(str(error).split())[:200]
        raise ScanError(
            f"a worker was lost {_RETRIES + 1} times ({cause}); run the same command again to go on"
        ) from error
    return report


def _scan_group(
    group: tuple[Found, ...], engine: Engine, cut: CutOptions, folder: Path, batch_size: int
) -> ScanReport:
    """In a worker."""
    return replace(scan_groups([group], _opened(engine), cut, Journal(folder), batch_size), complete=False)


@lru_cache(maxsize=1)
def _opened(engine: Engine) -> Listener:
    # A worker does many groups: the model is loaded for the first.
    return engine.open()
