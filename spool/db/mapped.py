"""A database's file: mapped, found again when it was replaced, locked where that is needed."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool.locks import LockBusy, shared
from cyrus_sync.spool.trouble import cannot_read

PATIENCE = 5.0
"""Seconds for which to try for a shared lock. Daemons hold theirs for milliseconds."""

Range = tuple[int, int]
WHOLE: Range = (0, 0)
"""Start and length of a lock; length 0 = to the end, wherever that is."""

Data = mmap.mmap | bytes


def map_file(fd: int, path: Path) -> Data:
    """All of an open file; octets that are mapped, and none for an empty one. Raises `StoreError`."""
    try:
        size = os.fstat(fd).st_size
        return mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error


class MappedFile:
    """The file that `path` leads to at the moment. Safe between threads: a mapping that is in use stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._id = (0, 0)
        self._data: Data = b""
        self._open()

    def look(self) -> Data:
        """Its octets. Opened again if another file has taken its name, mapped anew if it has grown."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise cannot_read(self.path, error) from error
        if (found.st_dev, found.st_ino) != self._id:
            self._open()
        elif found.st_size != len(self._data):
            self._data = map_file(self._fd, self.path)
        return self._data

    def is_current(self) -> bool:
        """Whether the file that was mapped last still has the name."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._id

    @contextlib.contextmanager
    def locked(self, part: Range = WHOLE, gate: Range | None = None) -> Iterator[Data]:
        """The octets under a shared lock of `part`, of the file that has the name. `gate` is locked first,
        and given up as soon as that is held. `StoreError` if they cannot be had within `PATIENCE`."""
        end = time.monotonic() + PATIENCE
        while True:
            self.look()
            before = self._id
            fd = os.dup(self._fd)
            try:
                with contextlib.ExitStack() as held:
                    with contextlib.ExitStack() as passing:
                        if gate is not None:
                            passing.enter_context(_shared(fd, gate, end))
                        held.enter_context(_shared(fd, part, end))
                    data = self.look()
                    if self._id == before:
                        yield data
                        return
            except LockBusy:
                raise StoreError(f"{self.path}: a daemon keeps it locked for {PATIENCE:g} s") from None
            finally:
                os.close(fd)

    def _open(self) -> None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_read(self.path, error) from error
        self.close()
        found = os.fstat(fd)
        self._fd, self._id = fd, (found.st_dev, found.st_ino)
        self._data = map_file(fd, self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._id, self._data = -1, (0, 0), b""

    def __del__(self) -> None:
        self.close()


def _shared(fd: int, part: Range, end: float) -> AbstractContextManager[None]:
    start, length = part
    return shared(fd, max(0.0, end - time.monotonic()), start=start, length=length)
