"""Runs that a timer starts never pile up: one is at work, and at most one more waits for it.

Whoever finds somebody waiting has nothing to do: that one begins later, and so does his work, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.errors import EX_TEMPFAIL
from cyrus_sync.common.filelock import lock_within
from cyrus_sync.multisite.errors import MultisiteError


class StillAtWork(MultisiteError):
    """An earlier run has not ended within the time that this one may wait."""

    exit_status = EX_TEMPFAIL
    text = "an earlier run is still at work"


@contextlib.contextmanager
def turn(directory: Path, name: str, wait: float, *, may_leave_it: bool = True) -> Iterator[bool]:
    """Have the turn of the command `name`, for which files in `directory` stand; `wait` in seconds.

    False, at once, if another run waits already and `may_leave_it`. Raises `StillAtWork`, OSError."""
    with _opened(directory / f"{name}.next") as following, _opened(directory / f"{name}.lock") as lock:
        if not lock_within(following, 0 if may_leave_it else wait):
            if may_leave_it:
                yield False
                return
            raise StillAtWork(f"another {name} is at work, and one waits for it")
        if not lock_within(lock, wait):
            raise StillAtWork(f"another {name} is at work still")
        fcntl.flock(following, fcntl.LOCK_UN)
        yield True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
