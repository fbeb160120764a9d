"""Sound archives. Each module here is one archive: a frozen dataclass `Source` that lists its recordings.

To add an archive, add its file: a module whose name is the archive's (with `_` for `-`) and whose
`Source` has the fields that say where it lies on disk, and a method `recordings`. It is found by its
name; nothing else needs to be told. `esc50.py` is a short one to start from; `tables.py` reads
metadata files and turns what is wrong with them into failures.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol

from naturelm.corpus.recordings import Failure, Recording
from naturelm.errors import NatureLMError

_HELPERS = {"darwin_core", "fields", "files", "tables"}


class SourceError(NatureLMError):
    """An archive that cannot be used at all: no such folder, or its metadata file is missing or damaged."""


class ArchiveSource(Protocol):
    """What the corpus asks of an archive."""

    def recordings(self) -> Iterator[Recording | Failure]:
        """Every recording in a fixed order, and a failure for each row or file that cannot be used.

        Reads metadata and looks whether files are there; opens no sound. Raises SourceError when the
        archive as a whole cannot be used.
        """
        ...


def source_names() -> tuple[str, ...]:
    """Names of all archives that can be read."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in names if name not in _HELPERS))


def source_type(name: str) -> type[ArchiveSource]:
    """The `Source` of the archive called `name`; SourceError, listing the names, if there is none."""
    if name not in source_names():
        raise SourceError(f"no source is called {name!r}; there are: {', '.join(source_names())}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    source: type[ArchiveSource] = module.Source
    return source
