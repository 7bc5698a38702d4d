"""A database's file: mapped, found again when it was replaced, locked where that is needed.

Locks are open-file-description locks: they meet the record locks that Cyrus takes, and unlike those they
do not vanish when another descriptor of the file is closed in this process.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.errors import StoreError

PATIENCE = 5.0
"""Seconds for which to try for a shared lock. Daemons hold theirs for milliseconds."""

Range = tuple[int, int]
WHOLE: Range = (0, 0)
"""Start and length of a lock; length 0 = to the end, wherever that is."""

_PAUSE = 0.002


def map_file(fd: int, path: Path) -> mmap.mmap | bytes:
    """All of an open file; octets that are mapped, and none for an empty one. Raises `StoreError`."""
    try:
        size = os.fstat(fd).st_size
        return mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> StoreError:
    """What to raise where the operating system refuses."""
    reason = getattr(error, "strerror", None) or str(error)
    hint = ""
    if isinstance(error, PermissionError):
        hint = f" for uid {os.geteuid()}: run this as the user that Cyrus runs as"
    return StoreError(f"{path}: cannot be read{hint}: {reason}")


class MappedFile:
    """The file that `path` leads to at the moment. Safe between threads: a mapping that is in use stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._id = (0, 0)
        self._data: mmap.mmap | bytes = b""
        self._open()

    def look(self) -> mmap.mmap | bytes:
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

    @contextlib.contextmanager
    def locked(self, *ranges: Range, then_free: Range | None = None) -> Iterator[mmap.mmap | bytes]:
        """The octets under shared locks of `ranges`, taken in that order, of the file that has the name.

        `then_free` is given up as soon as all are held. `StoreError` if they cannot be had within `PATIENCE`.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            self.look()
            fd = os.dup(self._fd)
            held: list[Range] = []
            try:
                for part in ranges:
                    self._lock(fd, part, deadline)
                    held.append(part)
                if then_free is not None:
                    _set(fd, fcntl.F_UNLCK, then_free)
                    held.remove(then_free)
                before = self._id
                data = self.look()
                if self._id == before:
                    yield data
                    return
            finally:
                for part in held:
                    _set(fd, fcntl.F_UNLCK, part)
                os.close(fd)

    def _lock(self, fd: int, part: Range, deadline: float) -> None:
        while True:
            try:
                _set(fd, fcntl.F_RDLCK, part)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(f"{self.path}: a daemon keeps it locked for {PATIENCE:g} s") from None
                time.sleep(_PAUSE)
            else:
                return

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


def _set(fd: int, kind: int, part: Range) -> None:
    start, length = part
    lock = struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
