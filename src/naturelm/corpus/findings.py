"""What a check of a corpus finds, and the report on it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

READABLE = "readable"
SOUND = "sound"
ANSWERS = "answers"
IDS = "ids"
APART = "apart"
HELD_OUT = "held-out"
NEAR_DUPLICATES = "near-duplicates"
MANIFEST = "manifest"

CHECKS = (READABLE, SOUND, ANSWERS, IDS, APART, HELD_OUT, NEAR_DUPLICATES, MANIFEST)
"""Names of all checks, in the order in which a report lists them."""

MOST_KEPT = 50
"""Findings of each check that a report keeps word for word; the rest are counted."""

_MOST_SHOWN = 80


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a corpus."""

    check: str
    """Name of the check that found it: one of `CHECKS`."""
    where: str
    """Shard, row within the shard (the first is 0) and id; or the file that it is about."""
    what: str
    cure: str


@dataclass(frozen=True)
class CheckRun:
    """A check that was run."""

    name: str
    looked_at: int
    """Rows that it applied to. Near-duplicates: clips that were compared."""
    found: int
    """All its findings, also those that the report does not keep."""


@dataclass(frozen=True)
class CheckReport:
    """What is wrong with a corpus, if anything."""

    rows: dict[str, int]
    """Split -> rows that were read."""
    checks: tuple[CheckRun, ...]
    findings: tuple[Finding, ...]
    """In the order of `CHECKS`, at most `MOST_KEPT` of each check."""
    notes: tuple[str, ...] = ()
    """What could not be looked at, though nothing was found to be wrong."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not any(check.found for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """The report as values that JSON can hold."""
        return {"ok": self.ok, **asdict(self)}


class Findings:
    """Collects findings: keeps the first of each check, and counts all."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._looked_at: Counter[str] = Counter()
        self._kept: dict[str, list[Finding]] = {name: [] for name in CHECKS}
        self._notes: dict[str, None] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Take up findings."""
        for finding in findings:
            self._found[finding.check] += 1
            if len(self._kept[finding.check]) < MOST_KEPT:
                self._kept[finding.check].append(finding)

    def note(self, note: str) -> None:
        """Say something that is not a finding; once."""
        self._notes[note] = None

    def looked(self, check: str, count: int = 1) -> None:
        """Count what a check looked at."""
        self._looked_at[check] += count

    def report(self, rows: dict[str, int], run: Iterable[str]) -> CheckReport:
        """The report; run: names of the checks that were run."""
        run = set(run)
        checks = tuple(
            CheckRun(name, self._looked_at[name], self._found[name]) for name in CHECKS if name in run
        )
        kept = tuple(finding for name in CHECKS for finding in self._kept[name])
        return CheckReport(rows, checks, kept, tuple(self._notes))


def shown(text: object) -> str:
    """Text from a corpus as it may stand in a message: one short line without control characters."""
    line = " ".join(str(text)[: 4 * _MOST_SHOWN].split())
    line = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 1] + "…"
