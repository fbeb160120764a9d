"""Metadata files of archives: rows out, and what is wrong with them as errors that name the file."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from naturelm.corpus.recordings import Failure
from naturelm.corpus.sources import SourceError


def existing_folder(folder: Path, archive: str) -> Path:
    """`folder`, if it is one; SourceError otherwise."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; give the folder in which {archive} was unpacked")
    return folder


def existing_file(path: Path, archive: str) -> Path:
    """`path`, if it is a file; SourceError otherwise."""
    if not path.is_file():
        raise SourceError(f"{path}: not found; {archive} is expected to have this file")
    return path


def read_rows(
    path: Path,
    required: Sequence[str],
    *,
    delimiter: str = ",",
    quoting: bool = True,
    legacy: str | None = None,
    surplus: str | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a delimited text file with a header, as (line number, {column: text}).

    quoting: whether `"` may quote a field; the tab-separated Darwin Core files do not.
    legacy: the encoding in which a file is read that is not UTF-8; None refuses it.
    surplus: the column under which a row's fields beyond the header are given, joined; None leaves them out.
    Raises SourceError for a missing file, a missing column, or text that is not UTF-8.
    """
    existing_file(path, "the archive")
    encoding = legacy if legacy is not None and not _is_utf8(path) else "utf-8-sig"
    with path.open(encoding=encoding, newline="") as file:
        if quoting:
            reader = csv.DictReader(file, delimiter=delimiter, restkey=surplus)
        else:
            reader = csv.DictReader(file, delimiter=delimiter, restkey=surplus, quoting=csv.QUOTE_NONE)
        try:
            columns = reader.fieldnames or ()
            missing = [name for name in required if name not in columns]
            if missing:
                found = ", ".join(columns) or "nothing"
                raise SourceError(f"{path}: no column {', '.join(missing)}; its header has: {found}")
            for row in reader:
                yield (
                    reader.line_num,
                    {name: _field(text, delimiter) for name, text in row.items() if name is not None},
                )
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except csv.Error as error:
            raise SourceError(f"{path}: line {reader.line_num}: {error}") from error


def _field(text: str | list[str] | None, delimiter: str) -> str:
    return (delimiter.join(text) if isinstance(text, list) else text or "").strip()


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return all(True for _ in file)
    except UnicodeDecodeError:
        return False


def column_names(path: Path, *, delimiter: str = ",") -> list[str]:
    """The header of a delimited text file. Raises SourceError as `read_rows` does, and for a column twice."""
    existing_file(path, "the archive")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=delimiter), [])
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except csv.Error as error:
            raise SourceError(f"{path}: line 1: {error}") from error
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise SourceError(f"{path}: column {', '.join(twice)} is there twice; take one out")
    return names


def missing_sound(source: str, file_name: str) -> Failure:
    """The failure of a row whose sound file is not there."""
    return Failure(source, file_name, "no such file; download it again or take the row out of the metadata")


def inside(folder: Path, name: str) -> Path | None:
    """`folder / name`, or None when a hostile row's name would lead outside the archive's folder."""
    path = folder / name
    try:
        return path if path.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):  # a name with a NUL, or a loop of links
        return None
