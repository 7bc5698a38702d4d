"""The format flat: a text file of lines, ``key TAB value LF``, sorted as mailboxes once were (a dot first).

NUL, TAB, CR and LF stand in it as FF and the octet with its highest bit set, FF as FF FF. A change makes
a new file and renames it over the old one, so a file that is open stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.spool.db.mapped import Data, MappedFile
from cyrus_sync.spool.trouble import SpoolDamaged

_TO_ESCAPE = re.compile(rb"[\x00\t\r\n\xff]")
_ESCAPED = re.compile(rb"\xff(.?)", re.DOTALL)


class Flat:
    """A `Database`."""

    kind = "flat"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)

    def is_current(self) -> bool:
        return self._file.is_current()

    def close(self) -> None:
        self._file.close()

    def get(self, key: bytes) -> bytes | None:
        data = self._file.look()
        head = _encoded(key) + b"\t"
        start = 0 if data[: len(head)] == head else data.find(b"\n" + head) + 1
        if not start and data[: len(head)] != head:
            return None
        return _line(data, start, self.path)[1]

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return items_of(self._file.look(), self.path, prefix)


def items_of(data: Data, path: Path, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """What is in a whole file, as far as keys begin with `prefix`."""
    start, size = 0, len(data)
    while start < size:
        key, value, start = _line(data, start, path)
        if key.startswith(prefix):
            yield key, value


def _line(data: Data, start: int, path: Path) -> tuple[bytes, bytes, int]:
    """Key and value of the line at `start`, and where the next one begins."""
    end = data.find(b"\n", start)
    key, tab, value = data[start : len(data) if end < 0 else end].partition(b"\t")
    if end < 0 or not tab:
        what = "the last line has no end" if end < 0 else "a line without a TAB"
        raise SpoolDamaged(path, start, what, "flat")
    return _decoded(key), _decoded(value), end + 1


def _encoded(octets: bytes) -> bytes:
    return _TO_ESCAPE.sub(lambda found: b"\xff" + bytes([found[0][0] | 0x80]), octets)


def _decoded(octets: bytes) -> bytes:
    if b"\xff" not in octets:
        return octets
    return _ESCAPED.sub(
        lambda found: found[1] if found[1] == b"\xff" else bytes(octet & 0x7F for octet in found[1]), octets
    )
