"""Durable changes of directories: a file is there whole under its name, or it is not there.

Write to a temporary name in the same directory, fsync, rename, fsync the directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from pathlib import Path

from cyrus_sync.common.files import sync_directory

TEMPORARY = ".ms_tmp_"
"""Names of unfinished files begin with this. Nobody else may take such a file for a packet or an order."""

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def temporary_in(directory: Path) -> Path:
    """A name for an unfinished file in `directory`."""
    return directory / f"{TEMPORARY}{secrets.token_hex(12)}"


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` with `data`, on disk. `FileExistsError` if it is there."""
    temporary = temporary_in(path.parent)
    _write(temporary, data, mode)
    try:
        rename_new(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        write_all(descriptor, memoryview(data))
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def begin_writing_back(descriptor: int, offset: int, count: int) -> None:
    """Have the system begin to bring these bytes to disk, so that a later fsync has less to wait for. It
    makes nothing durable, and an error of the disk is told by that fsync."""
    _libc.sync_file_range(
        descriptor, ctypes.c_int64(offset), ctypes.c_int64(count), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
    )


def rename_new(old: Path, new: Path, old_in: int = _AT_FDCWD, new_in: int = _AT_FDCWD) -> None:
    """rename(2) that never replaces: `FileExistsError` if `new` is there. One step, also after a crash.
    `old_in`, `new_in`: open directories, from which relative paths lead."""
    ctypes.set_errno(0)
    done = _libc.renameat2(old_in, os.fsencode(old), new_in, os.fsencode(new), _RENAME_NOREPLACE)
    if done == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(old), None, str(new))
    # A file system that cannot do it: two steps, still without replacing.
    from_here, to_there = (None if one == _AT_FDCWD else one for one in (old_in, new_in))
    os.link(old, new, src_dir_fd=from_here, dst_dir_fd=to_there, follow_symlinks=False)
    os.unlink(old, dir_fd=from_here)


def remove(path: Path) -> None:
    """Unlink, durably; a file that is not there is fine."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        sync_directory(path.parent)
