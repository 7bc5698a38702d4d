"""Names that last: what a power cut may take of a directory, and how it does not.

fsync of a file brings its octets to disk, not its name; a name lasts once the directory that holds it has
been synced, and a new directory once the one above has. So whoever makes a name that something depends on
makes it here, or calls `sync_directory` before he says that it is there.
"""

from __future__ import annotations

import os
from pathlib import Path


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


def make_directories(directory: Path, mode: int = 0o755) -> None:
    """mkdir -p; every name that this makes lasts on return. `mode` is that of all that are made, under the
    umask. Raises OSError as `Path.mkdir` does: `FileExistsError` where there is something else."""
    if directory.is_dir():
        return
    if directory.parent != directory:
        make_directories(directory.parent, mode)
    directory.mkdir(exist_ok=True, mode=mode)
    sync_directory(directory.parent)


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
