"""A suite by what the command line says: its name or components, and where the data is."""

from dataclasses import replace
from pathlib import Path

from naturelm.bench.beans_zero import HUB_ID, SPLIT, beans_zero_components
from naturelm.bench.suites.files import Files, LocalFiles, SuiteError, hub_files
from naturelm.bench.suites.suite import MINI_PREFIX, Choice, Suite, open_suite

BEANS_ZERO, BEANS_MINI = "beans-zero", "beans-mini"


def components_of(suite: str) -> tuple[str, ...] | None:
    """The components that are named; None for the whole of `beans-zero` or `beans-mini`.

    Raises SuiteError for a name that is neither a component of BEANS-Zero nor could be one of a corpus.
    """
    names = tuple(dict.fromkeys(name.strip() for name in suite.split(",") if name.strip()))
    if names in {(BEANS_ZERO,), (BEANS_MINI,)}:
        return None
    whole = {BEANS_ZERO, BEANS_MINI} & set(names)
    if whole or not names:
        raise SuiteError(
            f"--suite {suite!r}: give {BEANS_ZERO}, {BEANS_MINI}, or components with commas between"
        )
    known = beans_zero_components()
    unknown = [name for name in names if name not in known and not name.startswith(MINI_PREFIX)]
    if unknown:
        raise SuiteError(
            f"no component is called {unknown[0]!r}; there are: {', '.join(known)}, and those of a corpus, "
            f"which begin with {MINI_PREFIX}"
        )
    return names


def is_mini(suite: str) -> bool:
    """Whether it is the held-out part of a corpus, or components of one."""
    return suite == BEANS_MINI or suite.startswith(MINI_PREFIX)


def open_named_suite(suite: str, data: str | None, choice: Choice, *, revision: str | None = None) -> Suite:
    """Open `beans-zero`, `beans-mini` or some components.

    data: a folder, a file, or a hub id (with `revision`); None for BEANS-Zero's own repository. Raises SuiteError.
    """
    if data is None and is_mini(suite):
        raise SuiteError(
            "beans-mini is the held-out part of a starter corpus: build one (naturelm corpus build starter -o starter) "
            "and give --data starter"
        )
    opened = open_suite(_files(data or HUB_ID, revision), choice, split=SPLIT)
    if suite == BEANS_ZERO:
        strange = sorted(set(opened.tasks) - set(beans_zero_components()))
        if strange:
            raise SuiteError(
                f"{opened.files.name}: has {', '.join(strange[:3])}, no component of BEANS-Zero; name components, "
                "or ask beans-mini"
            )
        return replace(
            opened, absent=tuple(name for name in beans_zero_components() if name not in opened.tasks)
        )
    return opened


def _files(data: str, revision: str | None) -> Files:
    path = Path(data)
    if path.exists():
        if revision is not None:
            raise SuiteError(
                f"--revision {revision} is one of the hub's, and {data} is here; leave one of them out"
            )
        return LocalFiles(path)
    parts = data.split("/")
    if len(parts) == 2 and all(part and not part.startswith(".") for part in parts):
        return hub_files(data, revision)
    raise SuiteError(f"{data}: no such folder, and no name of a data set of the hub (OWNER/NAME)")
