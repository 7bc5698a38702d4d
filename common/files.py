"""Names that last, and files that are private: what neither a power cut nor another user may take.

fsync of a file brings its octets to disk, not its name; a name lasts once the directory that holds it has
been synced, and a new directory once the one above has. So whoever makes a name that something depends on
makes it here, or calls `sync_directory` before he says that it is there.

What we keep (messages, scripts, names of users) is for its owner alone by the mode with which it is made, not
by the umask of whoever runs a command.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_OTHERS = 0o077


def sync_file(path: Path) -> None:
    """fsync a file by name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Names made or removed in `directory` last from here on."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(directory: Path, mode: int = 0o700) -> None:
    """mkdir -p; every name that this makes lasts on return. `mode` is that of all that are made, under the
    umask. Raises OSError as `Path.mkdir` does: `FileExistsError` where there is something else,
    `NotADirectoryError` where that stands on the way."""
    if directory.is_dir():
        return
    try:
        directory.mkdir(exist_ok=True, mode=mode)
    except FileNotFoundError:
        if directory.parent == directory:
            raise
        make_directories(directory.parent, mode)
        directory.mkdir(exist_ok=True, mode=mode)
    sync_directory(directory.parent)


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: a file that this makes is its owner's alone, an older one becomes so."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    about = os.fstat(descriptor)
    if about.st_mode & _OTHERS and about.st_uid == os.geteuid():
        os.fchmod(descriptor, stat.S_IMODE(about.st_mode) & ~_OTHERS)
    return descriptor


def make_private(path: Path) -> None:
    """Make an empty file for its owner alone, if there is none. SQLite gives its logs the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def tighten(path: Path) -> None:
    """Take a database of an older release from all but its owner, with the logs beside it.

    By name: SQLite's locks would be lost if the file were opened and closed here."""
    for one in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):
            about = one.stat()
            if about.st_mode & _OTHERS and about.st_uid == os.geteuid():
                one.chmod(stat.S_IMODE(about.st_mode) & ~_OTHERS)


def write_over(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` hold `data`, on disk, with exactly this `mode`; until then it is what it was before.

    Between writers the caller keeps order. Raises OSError; then nothing is left beside.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new"[-255:])
    beside.unlink(missing_ok=True)
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, for the mode)
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
