"""What comes ahead of a command's end: the records of an APPLY MAILBOX, a message too large for memory.

A mailbox of a million records, a message of a gigabyte: neither is held in memory. Records beyond
`RECORDS_IN_MEMORY` go to a file without a name in the staging directory, a large message to a file there
that staging then takes over. Trouble with the disk is kept until the command has been read to its end,
so that the stream stays in step, and is then the command's answer.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from cyrus_sync.common.model import Record

RECORDS_IN_MEMORY = 8192
PIECE = 256 * 1024


class Records:
    """The records of one command, a re-iterable `RecordSource`. `add` may block: use a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._memory: list[Sequence[Record]] = []
        self.in_memory = 0
        self._file: IO[bytes] | None = None
        self._batches: list[tuple[int, int]] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def fits(self, batch: Sequence[Record]) -> bool:
        """True if `add` will not touch a disk."""
        return self._file is None and self.in_memory + len(batch) <= RECORDS_IN_MEMORY

    def add(self, batch: Sequence[Record]) -> None:
        """Take the next batch; OSError when the disk is full."""
        self.count += len(batch)
        if self.fits(batch):
            self._memory.append(batch)
            self.in_memory += len(batch)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 (closed by `close`)
        data = pickle.dumps([tuple(record) for record in batch], pickle.HIGHEST_PROTOCOL)
        at = self._batches[-1][0] + self._batches[-1][1] if self._batches else 0
        self._write(data, at)
        self._batches.append((at, len(data)))

    def _write(self, data: bytes, at: int) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, at)
            view = view[written:]
            at += written

    def __iter__(self) -> Iterator[Sequence[Record]]:
        yield from self._memory
        for at, length in self._batches:
            assert self._file is not None
            rows = pickle.loads(os.pread(self._file.fileno(), length, at))  # noqa: S301 (our own file, unlinked)
            yield [Record._make(row) for row in rows]

    def close(self) -> None:
        """Give back memory and disk."""
        self._memory = []
        self._batches = []
        if self._file is not None:
            self._file.close()
            self._file = None
