"""Exclusive locks on files, between threads and between processes, with a time limit.

The lock of an owner is ``lock`` in its directory. A lock file that was removed or replaced while we
waited (its owner was dropped, or moved) is no lock: `FileLock` then reports `Gone`.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.filelock import lock_within


class Gone(Exception):
    """The locked file is no longer at its path; look again where the owner is."""


class FileLock:
    """Holds `path` (created if need be) exclusively until `release`; also a context manager.

    Raises `MailboxLocked` if it cannot be had within `timeout` seconds (0 = try once), OSError if the
    file cannot be opened, `Gone` as above.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not lock_within(self._descriptor, timeout):
                raise MailboxLocked()
            self._check_path(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _check_path(self, path: Path) -> None:
        mine = os.fstat(self._descriptor)
        try:
            there = os.stat(path)  # noqa: PTH116 (often)
        except FileNotFoundError:
            raise Gone from None
        if (mine.st_ino, mine.st_dev) != (there.st_ino, there.st_dev):
            raise Gone

    def release(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
