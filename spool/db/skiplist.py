"""The format skiplist: the default before 2.5, and that of conversations today.

A file is a sorted part, which the last checkpoint wrote, and a log behind it: records added and deleted,
and commits. Its pointers are changed in place before a commit, and nothing has a checksum; so they are not
followed at all. The sorted part is read from front to back, and the log is replayed up to its last commit,
as Cyrus does after a crash. The log can be abandoned and written anew, so it is read under the shared lock
that Cyrus's own readers take; it is never much longer than the sorted part.
"""

from __future__ import annotations

import contextlib
import heapq
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from cyrus_sync.spool.db.chain import Flaw
from cyrus_sync.spool.db.database import Order, signed_order
from cyrus_sync.spool.db.mapped import Data, MappedFile
from cyrus_sync.spool.trouble import SpoolDamaged

MAGIC = b"\xa1\x02\x8b\x0dskiplist file\0\0\0"
VERSION = (1, 2)

_HEADER = Struct(">20sIIIIIII")
_WORD = Struct(">I")
_NODE = Struct(">II")
_DUMMY, _IN_ORDER, _ADD, _DELETE, _COMMIT = 257, 1, 2, 4, 255
_END = b"\xff\xff\xff\xff"
_MOST_LEVELS = 20


class _Record(NamedTuple):
    key: bytes
    value: int
    length: int
    after: int
    """Where the next record begins."""


class _Contents(NamedTuple):
    """One committed state. `sorted` are offsets in the order of keys."""

    data: Data
    order: Order
    sorted: array[int]
    deleted: frozenset[int]
    added: dict[bytes, int]

    def read(self, offset: int) -> _Record:
        return _read(self.data, offset, len(self.data))

    def value(self, record: _Record) -> bytes:
        return self.data[record.value : record.value + record.length]

    def get(self, key: bytes) -> bytes | None:
        offset = self.added.get(key)
        if offset is None:
            at = self._find(self.order(key))
            if at >= len(self.sorted) or self.sorted[at] in self.deleted:
                return None
            offset = self.sorted[at]
        record = self.read(offset)
        return self.value(record) if record.key == key else None

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        added = sorted(
            (self.order(key), key, offset) for key, offset in self.added.items() if key.startswith(prefix)
        )
        for _, key, offset in heapq.merge(self._in_order(prefix), added):
            yield key, self.value(self.read(offset))

    def _in_order(self, prefix: bytes) -> Iterator[tuple[bytes, bytes, int]]:
        before: bytes | None = None
        for index in range(self._find(self.order(prefix)), len(self.sorted)):
            offset = self.sorted[index]
            key = self.read(offset).key
            at = self.order(key)
            if before is not None and at <= before:
                raise Flaw("keys out of order", offset)
            before = at
            if not key.startswith(prefix):
                return
            if offset not in self.deleted and key not in self.added:
                yield at, key, offset

    def _find(self, wanted: bytes) -> int:
        """The first of the sorted part that is not before `wanted`."""
        low, high = 0, len(self.sorted)
        while low < high:
            middle = (low + high) // 2
            if self.order(self.read(self.sorted[middle]).key) < wanted:
                low = middle + 1
            else:
                high = middle
        return low


class Skiplist:
    """A `Database`. `order` is that of the sorted part."""

    kind = "skiplist"

    def __init__(self, path: Path, order: Order = signed_order) -> None:
        self.path = path
        self._order = order
        self._file = MappedFile(path)
        self._contents: _Contents | None = None

    def is_current(self) -> bool:
        return self._file.is_current()

    def close(self) -> None:
        self._file.close()
        self._contents = None

    def get(self, key: bytes) -> bytes | None:
        with self._naming_damage():
            return self._look().get(key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._naming_damage():
            yield from self._look().items(prefix)

    def _look(self) -> _Contents:
        with self._file.locked() as data:
            # Whatever is committed makes the file longer, or is another file.
            if self._contents is None or self._contents.data is not data:
                self._contents = _contents(data, self._order)
            return self._contents

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except Flaw as flaw:
            raise damaged(self.path, self._file.look(), flaw) from flaw


def items_of(data: Data, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """What is in a whole file."""
    try:
        yield from _contents(data, signed_order).items(b"")
    except Flaw as flaw:
        raise damaged(path, data, flaw) from flaw


def damaged(path: Path, data: Data, flaw: Flaw) -> SpoolDamaged:
    """The error that names file, offset and version."""
    version = "skiplist"
    if len(data) >= _HEADER.size:
        _, major, minor, *_ = _HEADER.unpack_from(data)
        version += f" {major}.{minor}"
    return SpoolDamaged(path, flaw.offset, flaw.what, version)


def _contents(data: Data, order: Order) -> _Contents:
    if len(data) < _HEADER.size:
        raise Flaw("shorter than a header", 0)
    magic, major, minor, levels, _, _, log, _ = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Flaw("no skiplist file", 0)
    if (major, minor) != VERSION:
        raise Flaw(f"version {major}.{minor} is not known", 20)
    first = _HEADER.size + 4 * (3 + levels + 1)
    if levels > _MOST_LEVELS or not first <= log <= len(data):
        raise Flaw(f"{levels} levels, a log at {log}", 28)
    if _WORD.unpack_from(data, _HEADER.size)[0] != _DUMMY:
        raise Flaw("the first record is none", _HEADER.size)
    offsets = array("Q")
    offset = first
    while offset < log:
        if _WORD.unpack_from(data, offset)[0] != _IN_ORDER:
            raise Flaw("the sorted part holds another record", offset)
        offsets.append(offset)
        offset = _read(data, offset, log).after
    return _replay(data, log, offsets, order)


def _replay(data: Data, offset: int, offsets: array[int], order: Order) -> _Contents:
    """The log from `offset` on: what its complete transactions leave."""
    log = offset
    deleted: set[int] = set()
    added: dict[bytes, int] = {}
    open_now: list[tuple[int, int]] = []
    while offset + 4 <= len(data):
        (kind,) = _WORD.unpack_from(data, offset)
        try:
            if kind == _COMMIT:
                _commit(data, log, open_now, deleted, added)
                open_now.clear()
                offset += 4
            elif kind == _DELETE:
                open_now.append((kind, _WORD.unpack_from(data, offset + 4)[0]))
                offset += 8
            elif kind in (_ADD, _IN_ORDER):
                open_now.append((_ADD, offset))
                offset = _read(data, offset, len(data)).after
            else:
                raise Flaw(f"type {kind} in the log", offset)
        except struct.error:
            break  # What was written of a transaction before a crash ends within a number.
        except Flaw:
            if _commits_after(data, offset):
                raise
            break
    return _Contents(data, order, offsets, frozenset(deleted), added)


def _commits_after(data: Data, offset: int) -> bool:
    """Whether what looks like a commit stands behind `offset`: then a record there is damaged, not torn."""
    while (offset := data.find(_WORD.pack(_COMMIT), offset)) >= 0:
        if offset % 4 == 0:
            return True
        offset += 1
    return False


def _commit(
    data: Data, log: int, steps: list[tuple[int, int]], deleted: set[int], added: dict[bytes, int]
) -> None:
    for kind, offset in steps:
        if kind == _ADD:
            added[_read(data, offset, len(data)).key] = offset
        elif offset < log:
            _read(data, offset, log)
            deleted.add(offset)
        else:
            added.pop(_read(data, offset, len(data)).key, None)


def _read(data: Data, offset: int, end: int) -> _Record:
    """A record that is no delete and no commit."""
    if offset < _HEADER.size or offset % 4 or offset + 16 > end:
        raise Flaw("a record leads beyond the file", offset)
    kind, key_length = _NODE.unpack_from(data, offset)
    if kind not in (_IN_ORDER, _ADD):
        raise Flaw(f"type {kind} where a record must be", offset)
    at = offset + 8 + (key_length + 3) // 4 * 4
    if at + 8 > end:
        raise Flaw("a key goes beyond the file", offset)
    (length,) = _WORD.unpack_from(data, at)
    pointers = at + 4 + (length + 3) // 4 * 4
    if pointers + 4 > end:
        raise Flaw("a value goes beyond the file", offset)
    last = min(end, pointers + 4 * (_MOST_LEVELS + 1))
    found = data.find(_END, pointers, last)
    while found >= 0 and (found - pointers) % 4:
        found = data.find(_END, found + 1, last)
    if found < 0:
        raise Flaw("a record has no end", offset)
    key = offset + 8
    return _Record(data[key : key + key_length], at + 4, length, found + 4)
