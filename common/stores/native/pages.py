"""The rows in an SQLite file, page by page, without SQLite: for files that it refuses.

Every leaf of a table or an index is read for itself (https://www.sqlite.org/fileformat2.html): no page is
found by way of another, so that what is damaged costs nothing but itself. Which table a row belongs to has
to be seen by its shape. Pages that were given back are passed over where the list of those can be read; rows
that were deleted or changed since may come along where it cannot.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

Value = int | float | str | bytes | None

_HEADER = b"SQLite format 3\0"
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_SIZES = tuple(1 << power for power in range(9, 17))
_INDEX, _TABLE = (0x02, 0x0A), 0x0D
_LEAF_HEAD, _INNER_HEAD = 8, 12
_MOST_COLUMNS = 64
_MOST_OCTETS = 64 * 1024 * 1024
_SAMPLE = 8 * 1024 * 1024


class Row(NamedTuple):
    """A row of a table that has a rowid, or (`rowid` None) an entry of an index, which a table WITHOUT ROWID
    is too."""

    rowid: int | None
    values: tuple[Value, ...]


class Pages:
    """A database file, with what of its write-ahead log was committed."""

    def __init__(self, data: bytes | mmap.mmap, log: bytes = b"", size: int = 0) -> None:
        """`size` is that of a page, if it is known; else the file tells it by its head, or by its rows."""
        self._data = data
        self.size, self._reserved = (size, 0) if size else _shape(data, log)
        self._newer = _committed(log, self.size)
        self.count = max(len(data) // self.size, max(self._newer, default=0))

    def page(self, number: int) -> bytes:
        """A page by number, from 1; b"" for one that is not there."""
        newer = self._newer.get(number)
        if newer is not None:
            return newer
        found = self._data[(number - 1) * self.size : number * self.size]
        return found if len(found) == self.size else b""

    def rows(self) -> Iterator[Row]:
        """Every row that can be read, in the order of pages."""
        free = self._free()
        for number in range(1, self.count + 1):
            if number not in free:
                yield from self._rows_in(self.page(number), 100 if number == 1 else 0)

    def legible(self) -> int:
        """Octets of rows that can be read, in a sample of the pages."""
        step = max(1, self.count * self.size // _SAMPLE)
        return sum(
            len(value)
            for number in range(1, self.count + 1, step)
            for row in self._rows_in(self.page(number), 100 if number == 1 else 0)
            for value in row.values
            if isinstance(value, (str, bytes))
        )

    def _free(self) -> set[int]:
        """Pages that are in no table."""
        free: set[int] = set()
        head = self.page(1)
        if head[:16] != _HEADER:
            return free
        trunk = int.from_bytes(head[32:36], "big")
        while 1 < trunk <= self.count and trunk not in free:
            page = self.page(trunk)
            if not page:
                break
            free.add(trunk)
            trunk, leaves = struct.unpack_from(">II", page)
            leaves = min(leaves, self.size // 4 - 2)
            free.update(struct.unpack_from(f">{leaves}I", page, 8))
        return free

    def _rows_in(self, page: bytes, start: int) -> Iterator[Row]:
        if not page or page[start] not in (*_INDEX, _TABLE):
            return
        kind = page[start]
        inner = kind == 0x02
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        first = start + (_INNER_HEAD if inner else _LEAF_HEAD)
        for number in range(min(cells, (self.size - first) // 2)):
            place = int.from_bytes(page[first + 2 * number : first + 2 * number + 2], "big")
            if place < first or place >= self.size:
                continue
            try:
                yield self._cell(page, place + (4 if inner else 0), table=kind == _TABLE)
            except (ValueError, IndexError, struct.error, UnicodeDecodeError):
                continue

    def _cell(self, page: bytes, place: int, *, table: bool) -> Row:
        """The row that begins at `place`. Raises ValueError or IndexError for what is none."""
        length, place = _varint(page, place)
        rowid = None
        if table:
            rowid, place = _varint(page, place)
        if not 0 < length <= _MOST_OCTETS:
            raise ValueError("not the length of a row")
        usable = self.size - self._reserved
        most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
        if length <= most:
            payload = page[place : place + length]
        else:
            least = (usable - 12) * 32 // 255 - 23
            here = least + (length - least) % (usable - 4)
            here = here if here <= most else least
            payload = page[place : place + here]
            following = int.from_bytes(page[place + here : place + here + 4], "big")
            payload += self._overflow(following, length - here, usable)
        if len(payload) != length:
            raise ValueError("a row that is cut off")
        return Row(rowid, _values(payload))

    def _overflow(self, number: int, length: int, usable: int) -> bytes:
        pieces: list[bytes] = []
        while length > 0:
            page = self.page(number)
            if not page or len(pieces) > self.count:
                raise ValueError("an overflow page is missing")
            pieces.append(page[4 : min(usable, 4 + length)])
            length -= len(pieces[-1])
            number = int.from_bytes(page[:4], "big")
        return b"".join(pieces)


def _shape(data: bytes | mmap.mmap, log: bytes) -> tuple[int, int]:
    """The size of a page, and how much of each is reserved."""
    if data[:16] == _HEADER:
        size = int.from_bytes(data[16:18], "big")
        size = 65536 if size == 1 else size
        if size in _SIZES and data[20] <= size - 480:
            return size, data[20]
    size = int.from_bytes(log[8:12], "big") if len(log) >= 12 else 0
    if size not in _SIZES:
        size = max(_SIZES, key=lambda size: Pages(data, size=size).legible())
    return size, 0


def _committed(log: bytes, size: int) -> dict[int, bytes]:
    """The newest committed copy of each page in a write-ahead log."""
    if len(log) < 32 or int.from_bytes(log[:4], "big") not in _WAL_MAGIC:
        return {}
    order = ">" if log[3] & 1 else "<"
    salt, sums = log[16:24], _sums(log[:24], (0, 0), order)
    if int.from_bytes(log[8:12], "big") != size or struct.pack(">II", *sums) != log[24:32]:
        return {}
    pages: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    for start in range(32, len(log) - size - 23, size + 24):
        head, page = log[start : start + 24], log[start + 24 : start + 24 + size]
        sums = _sums(page, _sums(head[:8], sums, order), order)
        if head[8:16] != salt or struct.pack(">II", *sums) != head[16:24]:
            break
        number, committed = struct.unpack_from(">II", head)
        pending[number] = page
        if committed:
            pages.update(pending)
            pending.clear()
    return pages


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A signed number of 64 bits, and where it ends."""
    value = 0
    for count in range(8):
        octet = data[place + count]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, place + count + 1
    value = value << 8 | data[place + 8]
    return (value - (1 << 64) if value >= 1 << 63 else value), place + 9


def _values(payload: bytes) -> tuple[Value, ...]:
    """The columns of a record."""
    end, place = _varint(payload, 0)
    if not 1 <= end <= len(payload):
        raise ValueError("not the head of a row")
    kinds = []
    while place < end:
        kind, place = _varint(payload, place)
        kinds.append(kind)
    if place != end or len(kinds) > _MOST_COLUMNS:
        raise ValueError("not the head of a row")
    values: list[Value] = []
    for kind in kinds:
        value, place = _value(payload, place, kind)
        values.append(value)
    if place != len(payload):
        raise ValueError("a row of another length")
    return tuple(values)


_WIDTHS = (0, 1, 2, 3, 4, 6, 8)


def _value(payload: bytes, place: int, kind: int) -> tuple[Value, int]:
    if kind in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(kind)], place
    if 1 <= kind <= 6:
        end = place + _WIDTHS[kind]
        return int.from_bytes(payload[place:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", payload, place)[0], place + 8
    if kind < 12:
        raise ValueError("no such type")
    end = place + (kind - 12) // 2
    octets = payload[place:end]
    if len(octets) != end - place:
        raise ValueError("a value that is cut off")
    return (octets.decode("utf-8") if kind & 1 else octets), end
