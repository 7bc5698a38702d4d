"""Answers that may be larger than memory: all records of a mailbox, a huge message.

Up to a bound they stay in memory, beyond it they go to a file without a name, which ends with the last
reference to it. Adding may block on the disk then; whoever adds asks `fits` first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

from cyrus_sync.common.model import Record
from cyrus_sync.common.protocol import codec

RECORDS_IN_MEMORY = 16_384
BYTES_IN_MEMORY = 1024 * 1024
PIECE = 256 * 1024


class _Tail:
    """A temporary file to append to and to read at any place, made when it is first needed."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def append(self, data: bytes) -> tuple[int, int]:
        """(offset, length) of what was written. Raises OSError."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="csync-", buffering=0)  # noqa: SIM115 (lives as long as we do)
        offset = self._end
        view = memoryview(data)
        while view:
            view = view[os.pwrite(self._file.fileno(), view, self._end) :]
            self._end = offset + len(data) - len(view)
        return offset, len(data)

    def read(self, offset: int, length: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), length, offset)


class RecordSpool:
    """A `RecordSource` that is filled batch by batch, in ascending order."""

    def __init__(self, in_memory: int = RECORDS_IN_MEMORY) -> None:
        self._free = in_memory
        self._memory: list[Sequence[Record]] = []
        self._tail = _Tail()
        self._on_disk: list[tuple[int, int]] = []

    def fits(self, records: Sequence[Record]) -> bool:
        """True if `add` will not touch the disk."""
        return not self._on_disk and len(records) <= self._free

    def add(self, records: Sequence[Record]) -> None:
        if self.fits(records):
            self._free -= len(records)
            self._memory.append(records)
        else:
            self._on_disk.append(self._tail.append(codec.encode_records(records, server=True)))

    def __iter__(self) -> Iterator[Sequence[Record]]:
        yield from self._memory
        for offset, length in self._on_disk:
            yield codec.decode_records(self._tail.read(offset, length))


class ByteSpool:
    """A message's bytes that are filled piece by piece; iterating gives them in pieces, again and again."""

    def __init__(self, in_memory: int = BYTES_IN_MEMORY) -> None:
        self._free = in_memory
        self._memory: list[bytes] = []
        self._tail = _Tail()
        self._on_disk = 0

    def fits(self, data: bytes) -> bool:
        """True if `add` will not touch the disk."""
        return not self._on_disk and len(data) <= self._free

    def add(self, data: bytes) -> None:
        if self.fits(data):
            self._free -= len(data)
            self._memory.append(data)
        else:
            self._on_disk += self._tail.append(data)[1]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._memory
        for offset in range(0, self._on_disk, PIECE):
            yield self._tail.read(offset, min(PIECE, self._on_disk - offset))
