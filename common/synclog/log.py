"""One action log file: daemons append to it, one sync_client claims it.

A writer opens the log anew for every write, takes an exclusive record lock on it, and looks whether the
path still leads to the file it has locked; only then does it write. The reader renames ``log`` to
``log-run`` and takes the lock once for a moment: after that no writer has the file any more, and every
line is either in ``log-run`` or in a new ``log``. The run file goes away only when its work is done.

Locks are open-file-description locks: they meet the POSIX record locks of Cyrus's own programs, and
they hold between the threads of one process too.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories, sync_directory
from cyrus_sync.common.synclog.lines import format_line

ATTEMPTS = 64
"""How often a writer opens the log again because a reader has just taken it away."""

_AT_ONCE = 16
"""So often without a pause; then readers are given ever more time to come to an end, two seconds in all."""

_WRITE_LOCK = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_UNLOCK = struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


class ClaimedLog:
    """A run file. `finish` when its work is done, `release` when it is not: then it is claimed again."""

    def __init__(self, path: Path, fd: int, lock_fd: int, reprocessing: bool) -> None:
        self.path = path
        self.reprocessing = reprocessing
        """True if the file was left over: some or all of its work may have been done before."""
        self._fd = fd
        self._lock_fd = lock_fd

    def read(self) -> bytes:
        """The whole file. May be called again."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        pieces = []
        while piece := os.read(self._fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Remove the run file, unless another reader has put a new one in its place."""
        try:
            if _same_file(self._fd, self.path):
                self.path.unlink()
        finally:
            self.release()

    def release(self) -> None:
        """Leave the run file for the next claim."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def __enter__(self) -> ClaimedLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class SyncLog:
    """The log at `path`, for both ends. Holds no descriptor; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_path = path.with_name(path.name + "-run")
        self._claim_path = path.with_name(path.name + "-claim")

    def append(self, lines: Iterable[Sequence[str]], *, fsync: bool = True) -> None:
        """Append ``(type, *arguments)`` lines in one write. With `fsync` they are on disk on return.

        Raises `StoreError` if they cannot be written: then none of them is in the log.
        """
        data = b"".join([format_line(*line) for line in lines])
        if data:
            self.append_bytes(data, fsync=fsync)

    def append_bytes(self, data: bytes, *, fsync: bool = True) -> None:
        """The same for lines that are formatted already, each with its LF."""
        try:
            fd = self._open_locked()
            try:
                _write_whole(fd, data)
                if fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise StoreError(f"cannot append to the action log {self.path}: {error.strerror}") from error

    def claim(self) -> ClaimedLog | None:
        """Take what has been logged: a left-over run file first, else the log itself.

        None if there is nothing to do, or if another process is at work on this log.
        """
        if not self.run_path.exists() and not self.path.exists():
            return None
        try:
            lock_fd = os.open(self._claim_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            give_to_owner_of(self._claim_path.parent, lock_fd)
            try:
                fcntl.fcntl(lock_fd, fcntl.F_OFD_SETLK, _WRITE_LOCK)
            except BlockingIOError:
                os.close(lock_fd)
                return None
        except OSError as error:
            raise StoreError(f"cannot claim the action log {self.path}: {error.strerror}") from error
        try:
            return self._claim(lock_fd)
        except OSError as error:
            os.close(lock_fd)
            raise StoreError(f"cannot claim the action log {self.path}: {error.strerror}") from error

    def _claim(self, lock_fd: int) -> ClaimedLog | None:
        reprocessing = self.run_path.exists()
        if not reprocessing:
            try:
                self.path.rename(self.run_path)
            except FileNotFoundError:
                os.close(lock_fd)
                return None
        fd = os.open(self.run_path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # A crash between rename and this lock leaves writers inside a left-over file too.
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _WRITE_LOCK)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _UNLOCK)
        except OSError:
            os.close(fd)
            raise
        return ClaimedLog(self.run_path, fd, lock_fd, reprocessing)

    def _open_locked(self) -> int:
        for attempt in range(ATTEMPTS):
            if attempt > _AT_ONCE:
                time.sleep(attempt / 1000)
            fd = self._open()
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _WRITE_LOCK)
                if _same_file(fd, self.path):
                    if not os.fstat(fd).st_size:
                        give_to_owner_of(self.path.parent, fd)
                        # The name lasts before anything is in the file, whoever made it.
                        sync_directory(self.path.parent)
                    return fd
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
        raise StoreError(f"cannot append to the action log {self.path}: it is replaced again and again")

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            missing = [path for path in self.path.parents if not path.exists()]
            make_directories(self.path.parent)
            for path in reversed(missing):
                made = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:  # or the daemons could write nothing into a channel whose first line was root's
                    give_to_owner_of(path.parent, made)
                finally:
                    os.close(made)
            return os.open(self.path, flags, 0o600)


def _same_file(fd: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_ino, mine.st_dev) == (found.st_ino, found.st_dev)


def _write_whole(fd: int, data: bytes) -> None:
    """All of `data` or, where the disk is full, nothing; behind a torn line on a line of its own."""
    end = os.fstat(fd).st_size
    if end and os.pread(fd, 1, end - 1) != b"\n":
        data = b"\n" + data
    written = 0
    try:
        while written < len(data):
            written += os.write(fd, data[written:])
    except OSError:
        os.ftruncate(fd, end)
        raise
