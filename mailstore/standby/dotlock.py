"""Dovecot's lock of a file: another one beside it, ``NAME.lock``, made as a whole, with ``pid:host`` in it.

Dovecot changes a folder (new messages, flags, expunges) only while it has the lock of ``dovecot-uidlist``;
who has it as well sees no half of a change, and no Dovecot gives a UID to a file that is not in the list yet.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.files import give_to_owner_of
from cyrus_sync.common.numbers import decimal

STALE_SECONDS = 120
"""After so long without a change a lock of nobody knows whom is broken, as Dovecot has it."""

PATIENCE = 20.0
"""Seconds that one waits for a lock; then the user is tried again later."""

_YOUNG = 2.0
"""Seconds in which a lock may not have its process id yet."""


@contextmanager
def dot_locked(path: Path, seconds: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of `path`, whose directory must be there. Raises `MailboxLocked` after `seconds`."""
    lock = path.with_name(path.name + ".lock")
    end = time.monotonic() + seconds
    while (descriptor := _take(lock)) < 0:
        _break_stale(lock)
        if time.monotonic() > end:
            raise MailboxLocked(f"{lock} is held by {_holder(lock) or 'somebody'} since {seconds:g} seconds")
        time.sleep(0.005)
    try:
        yield
    finally:
        mine = os.fstat(descriptor)
        os.close(descriptor)
        try:
            if lock.stat().st_ino == mine.st_ino:
                lock.unlink()
        except FileNotFoundError:
            pass  # it was taken for stale: whoever did so has been careful, or the directory is gone


def _take(lock: Path) -> int:
    """A descriptor of the lock, -1 where somebody has it. It is never there without the process in it, and
    all may read that: who finds it after a crash need not wait until it is stale."""
    beside = None
    try:
        descriptor = os.open(lock.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        beside = lock.with_name(f"{lock.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(
            beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
    try:
        os.fchmod(descriptor, 0o644)
        give_to_owner_of(lock.parent, descriptor)
        os.write(descriptor, f"{os.getpid()}:{socket.gethostname()}".encode())
        # With a descriptor, which a whole path does not need, linkat(2) follows the link in /proc.
        os.link(beside or f"/proc/self/fd/{descriptor}", lock, src_dir_fd=descriptor)
    except FileExistsError:
        os.close(descriptor)
        return -1
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)
    return descriptor


def _holder(lock: Path) -> str:
    try:
        return lock.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _break_stale(lock: Path) -> None:
    """Remove a lock whose process is gone, or that nobody has touched for too long."""
    try:
        about = lock.stat()
    except FileNotFoundError:
        return
    age = time.time() - max(about.st_mtime, about.st_ctime)
    if age < _YOUNG:
        return
    pid, _, host = _holder(lock).partition(":")
    number = decimal(pid, default=0)
    if host == socket.gethostname() and number:
        if _lives(number):
            return
    elif age < STALE_SECONDS:
        return
    try:
        if lock.stat().st_ino == about.st_ino:
            lock.unlink()
    except FileNotFoundError:
        pass


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
