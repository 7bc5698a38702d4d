"""Locks that keep Cyrus's daemons from writing while we copy: as few and as short as can be.

Cyrus locks whole files with fcntl(2). Those locks belong to a process, which loses them when it closes any
descriptor of the file; so ours are of the other kind, which belongs to an open file (``F_OFD_SETLK``) and
excludes the former as it would itself. A Cyrus can be built to use flock(2) instead, and no file tells; so a
whole file is locked both ways.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator

_LOCK = struct.Struct("hhqqi4x")
_BUSY = (errno.EAGAIN, errno.EACCES)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01


class LockBusy(Exception):
    """Somebody held a lock for longer than we were to wait."""


@contextlib.contextmanager
def shared(descriptor: int, timeout: float, *, start: int = 0, length: int = 0) -> Iterator[None]:
    """Hold a shared lock on the whole of an open file, or on `length` octets from `start` on; `LockBusy` if
    it is not had within `timeout` seconds."""
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not _taken(descriptor, start, length):
        if time.monotonic() >= end:
            raise LockBusy(f"not had within {timeout:.3g} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    try:
        yield
    finally:
        _release(descriptor, start, length)


def _taken(descriptor: int, start: int, length: int) -> bool:
    if not _try(descriptor, fcntl.F_RDLCK, start, length):
        return False
    try:
        if start == length == 0:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        _try(descriptor, fcntl.F_UNLCK, start, length)
        return False


def _release(descriptor: int, start: int, length: int) -> None:
    if start == length == 0:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    _try(descriptor, fcntl.F_UNLCK, start, length)


def _try(descriptor: int, kind: int, start: int, length: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True
