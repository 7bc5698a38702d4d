"""What a commit has done to an index, in a few octets: the pages that it changed, each as its difference.

The data of a row of the journal is a header, the pages, and then whatever octets of packs the row brings
itself::

    "CSJ1"     four octets
    flags      1: WHOLE, the pages are a whole index and no difference
    page       octets of a page
    total      pages of the index afterwards
    count      pages that stand here
    check      XXH64 of these pages as they are afterwards, in order
    length     octets of what follows
    ...        zstd: the numbers of the pages (from 1, four octets each), then the pages, each XORed with
               what it was before (nothing but zeros where it was not there)

All numbers are little-endian. A difference fits one state of an index alone; the check says whether it was
that.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash
import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.files import private

_HEAD = struct.Struct("<4sBIIIQI")
_MAGIC = b"CSJ1"
_WHOLE = 1
_LEVEL = 3
_USER_VERSION = 60

_mine = threading.local()
"""What only one thread may use at a time, and takes longer to make than to use."""


class Change(NamedTuple):
    """Pages of an index after a commit, and how many there are then."""

    page: int
    total: int
    pages: Mapping[int, bytes]
    """By number, from 1."""


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending page numbers as (first, count) of those that follow one another."""
    start = count = 0
    for number in numbers:
        if count and number == start + count:
            count += 1
            continue
        if count:
            yield start, count
        start, count = number, 1
    if count:
        yield start, count


class Image:
    """An index as it was published last: a plain file beside the one that SQLite works on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def format(self) -> int:
        """The number of the index's format, where SQLite has it (file format 1.3.15)."""
        with self._opened(os.O_RDONLY) as file:
            return int.from_bytes(os.pread(file, 4, _USER_VERSION), "big")

    def encode(self, change: Change) -> tuple[bytes, list[tuple[int, bytes]]]:
        """`change` as a difference to this image, and what `write` makes of it."""
        numbers = sorted(change.pages)
        digest = xxhash.xxh64()
        differences, writes = [], []
        with self._opened(os.O_RDONLY) as file:
            for first, count in runs(numbers):
                new = b"".join(change.pages[number] for number in range(first, first + count))
                old = os.pread(file, len(new), (first - 1) * change.page)
                digest.update(new)
                differences.append(_xor(new, old))
                writes.append(((first - 1) * change.page, new))
        body = _packed(numbers, differences)
        head = _HEAD.pack(_MAGIC, 0, change.page, change.total, len(numbers), digest.intdigest(), len(body))
        return head + body, writes

    def write(self, writes: Sequence[tuple[int, bytes]], octets: int) -> None:
        """Make the image what `encode` has described; it has so many octets then."""
        with self._opened(os.O_RDWR) as file:
            for offset, data in writes:
                os.pwrite(file, data, offset)
            if os.fstat(file).st_size != octets:
                os.ftruncate(file, octets)

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        """A descriptor, which is all that is needed at each commit."""
        descriptor = os.open(self.path, flags | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def apply(self, data: bytes) -> None:
        """Do what a row of the journal says of the index. `StoreCorrupt` where it does
        not fit; nothing is changed then."""
        magic, flags, page, total, count, check, length = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise StoreCorrupt("the journal has a row of another kind")
        end = _HEAD.size + length
        numbers, content = _unpacked(data[_HEAD.size : end], count, page)
        old = b"" if flags & _WHOLE else self._read(numbers, page)
        new = content if flags & _WHOLE else _xor(content, old)
        if xxhash.xxh64(new).intdigest() != check:
            raise StoreCorrupt("a row of the journal does not fit the state of the index before it")
        if flags & _WHOLE:
            with open(self.path, "wb", opener=private) as file:
                file.write(new)
        else:
            writes, position = [], 0
            for first, pages in runs(numbers):
                writes.append(((first - 1) * page, new[position : position + pages * page]))
                position += pages * page
            self.write(writes, total * page)

    def _read(self, numbers: Sequence[int], page: int) -> bytes:
        found = []
        with self.path.open("rb", buffering=0) as file:
            for first, count in runs(numbers):
                old = os.pread(file.fileno(), count * page, (first - 1) * page)
                found.append(old.ljust(count * page, b"\0"))
        return b"".join(found)


def encode_whole(index: Path) -> bytes:
    """A whole index, which nobody has open, as the data of a row."""
    content = index.read_bytes()
    page = page_size(content)
    total = len(content) // page
    body = _packed(range(1, total + 1), [content])
    head = _HEAD.pack(_MAGIC, _WHOLE, page, total, total, xxhash.xxh64(content).intdigest(), len(body))
    return head + body


def page_size(head: bytes) -> int:
    """Octets of a page, as the first 18 octets of an index say it (SQLite's file format, 1.3.2)."""
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size


def _packed(numbers: Sequence[int], pages: Sequence[bytes]) -> bytes:
    listed = struct.pack(f"<{len(numbers)}I", *numbers)
    packer: zstandard.ZstdCompressor | None = getattr(_mine, "packer", None)
    if packer is None:
        packer = _mine.packer = zstandard.ZstdCompressor(level=_LEVEL)
    return packer.compress(b"".join([listed, *pages]))


def _unpacked(body: bytes, count: int, page: int) -> tuple[Sequence[int], bytes]:
    try:
        content = zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"a row of the journal is damaged: {error}") from error
    if len(content) != count * (4 + page):
        raise StoreCorrupt("a row of the journal is damaged: it has another length than it says")
    return struct.unpack_from(f"<{count}I", content), content[4 * count :]


def _xor(one: bytes, other: bytes) -> bytes:
    other = other.ljust(len(one), b"\0")
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")
