"""Tables of a suite: Parquet and Arrow files, in a folder or on the hub, read a few rows at a time.

The hub's files are read in place, by their bytes, and not through `datasets`: only then are the texts of all rows
(some MB) had without the sound (some 100 GB), which is what choosing rows needs; and no code of a repository is run.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from naturelm.corpus.sources.tables import inside
from naturelm.errors import NatureLMError

ARROW, PARQUET = ".arrow", ".parquet"
_SPLITS = ("train", "validation", "test")
_ROWS_AT_ONCE = 16
"""Rows whose sound is in memory at a time while a Parquet file is read: 10 s as 64-bit numbers take some MB each."""
_READ_AHEAD = 2**22
"""Bytes of a column that are read at once; else a group of rows is read whole, which may be all rows of a file."""
_RANDOM_ACCESS = b"ARROW1"


class SuiteError(NatureLMError):
    """A suite that cannot be read or used; the text names the file and the cure."""


class Files(Protocol):
    """Where tables lie."""

    @property
    def name(self) -> str:
        """For messages."""

    def tables(self) -> list[str]:
        """Names of the Parquet and Arrow files, sorted."""

    def place(self, name: str) -> str:
        """One of them, for messages."""

    def open(self, name: str) -> Any:
        """One of them as a `pyarrow.NativeFile` or a binary file object."""

    def beside(self, name: str) -> Path | None:
        """A sound file that a row names by its path within the folder; None where it leads out of it."""


@dataclass(frozen=True)
class LocalFiles:
    """A folder, as `save_to_disk` or a download of the hub's repository leaves it, or one file."""

    path: Path

    @property
    def name(self) -> str:
        """The folder or file."""
        return str(self.path)

    def tables(self) -> list[str]:
        """See `Files.tables`.

        Links that lead out of the folder are not followed, but for those to the `blobs` of the hub's cache.
        """
        if self.path.is_file():
            if self.path.suffix.lower() not in {ARROW, PARQUET}:
                raise SuiteError(
                    f"{self.path}: neither a .parquet nor an .arrow file; give one, or a folder of them"
                )
            return [self.path.name]
        if not self.path.is_dir():
            raise SuiteError(f"{self.path}: no such folder or file; give a local copy of the data")
        commits = sorted(path.name for path in self.path.glob("snapshots/*"))
        if len(commits) > 1:  # each has all rows
            raise SuiteError(
                f"{self.path}: holds {len(commits)} commits of the data; give one, such as {self.path}/snapshots/{commits[0]}"
            )
        names = [
            path.relative_to(self.path).as_posix()
            for path in self.path.rglob("*")
            if path.suffix.lower() in {ARROW, PARQUET} and not path.name.startswith(".") and path.is_file()
        ]
        roots = (self.path, *_hub_blobs(self.path))
        return sorted(name for name in names if any(_leads_into(root, self.path / name) for root in roots))

    def place(self, name: str) -> str:
        """See `Files.place`."""
        return str(self._folder / name)

    def open(self, name: str) -> Any:
        """See `Files.open`. Mapped into memory, so that only what is looked at is read."""
        return pa.memory_map(str(self._folder / name))

    def beside(self, name: str) -> Path | None:
        """See `Files.beside`."""
        return inside(self._folder, name)

    @property
    def _folder(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path


def _hub_blobs(folder: Path) -> Iterator[Path]:
    """Where the hub's cache keeps the files of a snapshot, `.../snapshots/COMMIT`, or of a folder within it."""
    for above in folder.absolute().parents:
        blobs = above.parent / "blobs"
        if above.name == "snapshots" and blobs.is_dir():
            yield blobs


def _leads_into(root: Path, path: Path) -> bool:
    return inside(root, str(path.absolute())) is not None


@dataclass(frozen=True)
class HubFiles:
    """A data set of the Hugging Face hub, at one commit."""

    repository: str
    revision: str
    """The commit, so that a run that goes on reads the same files."""
    system: Any
    """An `fsspec` file system that has the repository's files at `root`."""
    root: str

    @property
    def name(self) -> str:
        """Repository and commit."""
        return f"{self.repository}@{self.revision[:12]}"

    def tables(self) -> list[str]:
        """See `Files.tables`."""
        found = self.system.find(self.root)
        names = [path.removeprefix(f"{self.root}/") for path in found]
        return sorted(name for name in names if name.endswith((ARROW, PARQUET)))

    def place(self, name: str) -> str:
        """See `Files.place`."""
        return f"{self.name}/{name}"

    def open(self, name: str) -> Any:
        """See `Files.open`. What is read is asked for, and no more: the sound between the texts would be fetched with them."""
        return self.system.open(f"{self.root}/{name}", "rb", cache_type="none")

    def beside(self, name: str) -> Path | None:
        """None: a row of the hub has its sound within."""
        return None


def hub_files(repository: str, revision: str | None = None) -> HubFiles:
    """A data set of the hub. Raises SuiteError where it is not there or the hub cannot be reached."""
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        commit = HfApi().dataset_info(repository, revision=revision, timeout=30).sha
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise SuiteError(
            f"{repository}: no folder here, and not to be had from the hub ({_first_line(error)}); check the name and the "
            "network, or give a local copy with --data"
        ) from error
    except Exception as error:  # httpx has its own classes for a network that is not there
        raise SuiteError(
            f"{repository}: no folder here, and the hub cannot be reached ({_first_line(error)}); give a local copy with --data"
        ) from error
    return HubFiles(repository, str(commit), HfFileSystem(), f"datasets/{repository}@{commit}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def tables_of_split(files: Files, split: str) -> list[str]:
    """Names of the tables of a split, in order; all where names tell no split. Raises SuiteError for none."""
    names = files.tables()
    if not names:
        raise SuiteError(
            f"{files.name}: no Parquet or Arrow file; give a folder that has the data set's files"
        )
    by_split: dict[str, list[str]] = {}
    for name in names:
        by_split.setdefault(_split_of(name), []).append(name)
    if split in by_split:
        return by_split[split]
    if "" in by_split:
        return by_split[""]
    raise SuiteError(f"{files.name}: has no {split} split, only {', '.join(sorted(by_split))}")


def _split_of(name: str) -> str:
    """The split that a file's name begins with, or that a folder above it is called; empty for none."""
    *folders, last = name.casefold().split("/")
    for split in _SPLITS:
        rest = last.removeprefix(split)
        if split in folders or (rest != last and not rest[:1].isalpha()):
            return split
    return ""


def column_names(files: Files, name: str) -> list[str]:
    """Of one table."""
    with _opened(files, name) as table:
        return list(table.schema_arrow.names if isinstance(table, pq.ParquetFile) else table.schema.names)


def read_texts(files: Files, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of all rows of a table."""
    with _opened(files, name, at_once=True) as table:
        if isinstance(table, pq.ParquetFile):
            return table.read(list(columns), use_threads=False)
        # Copied, since what is mapped is gone when the file is closed.
        return pa.Table.from_pylist(
            [row for batch in _arrow_batches(table) for row in batch.select(list(columns)).to_pylist()],
            schema=pa.schema([table.schema.field(column) for column in columns]),
        )


def read_cells(
    files: Files, name: str, column: str, wanted: Sequence[int]
) -> Iterator[tuple[int, pa.Scalar]]:
    """Number and cell of the wanted rows (rising), as they are read; never more than a few rows in memory."""
    with _opened(files, name) as table:
        first, left = 0, list(reversed(wanted))
        for batch in _batches(table, column, wanted):
            rows = batch if isinstance(batch, int) else len(batch)
            while left and left[-1] < first + rows:
                row = left.pop()
                assert not isinstance(batch, int)  # what is passed over holds no wanted row
                yield row, batch.column(0)[row - first]
            first += rows
            if not left:
                return


def _batches(table: Any, column: str, wanted: Sequence[int]) -> Iterator[pa.RecordBatch | int]:
    """Batches of the column in order; the number of rows of a part that has none of the wanted."""
    if not isinstance(table, pq.ParquetFile):
        for batch in _arrow_batches(table):
            yield batch.select([column])
        return
    first = 0
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if bisect_left(wanted, first) < bisect_left(wanted, first + rows):
            yield from table.iter_batches(
                _ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False
            )
        else:
            yield rows
        first += rows


def _arrow_batches(table: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(table, pa.RecordBatchFileReader):
        return (table.get_batch(number) for number in range(table.num_record_batches))
    return iter(table)


@contextmanager
def _opened(files: Files, name: str, *, at_once: bool = False) -> Iterator[Any]:
    """A table for reading; what goes wrong inside is a SuiteError that names the file.

    at_once: columns that are small are read whole, neighbours in one go; otherwise a few MB at a time.
    """
    try:
        with files.open(name) as file:
            if name.casefold().endswith(PARQUET):
                with pq.ParquetFile(
                    file, pre_buffer=at_once, buffer_size=0 if at_once else _READ_AHEAD
                ) as table:
                    yield table
                return
            head = file.read(len(_RANDOM_ACCESS))
            file.seek(0)
            with pa.ipc.open_file(file) if head == _RANDOM_ACCESS else pa.ipc.open_stream(file) as table:
                yield table
    except (OSError, pa.ArrowException, KeyError) as error:
        raise SuiteError(
            f"{files.place(name)}: cannot be read ({_first_line(error)}); download it again"
        ) from error
