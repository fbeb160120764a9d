"""Qt's binary resource files (`.rcc`, format version 2 and later), in which GCompris keeps its sounds."""

import struct
from pathlib import Path

from naturelm.corpus.options import CorpusError

_FOLDER, _COMPRESSED = 2, 5
_NODE = 22
"""Bytes of a file's or folder's entry in the tree."""


def read_qt_resource(path: Path) -> dict[str, bytes]:
    """Uncompressed files of a resource by their name, as sound is always stored. CorpusError if it is damaged."""
    content = path.read_bytes()
    try:
        magic, version, tree, data, names = struct.unpack_from(">4s4I", content)
        if magic != b"qres" or version < 2:
            raise CorpusError(f"{path}: not a Qt resource of version 2 or later")
        files: dict[str, bytes] = {}
        pending, seen, left = [0], 0, len(content)
        while pending:
            node = tree + _NODE * pending.pop()
            seen += 1
            if seen + len(pending) > len(content) // _NODE + 1:
                raise CorpusError(f"{path}: its folders lead in a circle")
            name_at, flags = struct.unpack_from(">IH", content, node)
            if flags & _FOLDER:  # its children stand in a row
                count, first = struct.unpack_from(">2I", content, node + 6)
                pending += range(first, first + min(count, len(content)))
            elif not flags & _COMPRESSED:
                (data_at,) = struct.unpack_from(">I", content, node + 10)
                (size,) = struct.unpack_from(">I", content, data + data_at)
                (letters,) = struct.unpack_from(">H", content, names + name_at)
                letters_at, begin = names + name_at + 6, data + data_at + 4
                left -= size
                if left < 0 or begin + size > len(content):
                    raise CorpusError(f"{path}: a damaged Qt resource (its files are longer than itself)")
                name = content[letters_at : letters_at + 2 * letters].decode("utf-16-be")
                files[name] = content[begin : begin + size]
    except (struct.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: a damaged Qt resource ({error}); fetch its package again") from error
    return files
