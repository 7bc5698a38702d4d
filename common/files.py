"""Names that last, and files that are private: what neither a power cut nor another user may take.

fsync of a file brings its octets to disk, not its name; a name lasts once the directory that holds it has
been synced, and a new directory once the one above has. So whoever makes a name that something depends on
makes it here, or calls `sync_directory` before he says that it is there.

What we keep (messages, scripts, names of users) is for its owner alone by the mode with which it is made, not
by the umask of whoever runs a command.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".ms_tmp_"
"""Names of unfinished files begin with this. Nobody else may take such a file for a packet or an order."""

_OTHERS = 0o077
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """An error of the system that names no file, as those of write(2) and fsync(2) do, names this one. Around
    whatever writes by descriptor: *No space left on device* is of use only with the device."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


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


def sync_disk(path: Path) -> None:
    """syncfs(2): everything on the file system of `path` is on disk, names too. What many small files cost to
    sync one by one is many times this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ctypes.set_errno(0)
        if _libc.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)


def give_to_owner_of(directory: Path, descriptor: int) -> None:
    """What root has made in another's directory is that one's, as if he had made it himself: daemons that run
    as him are to use it, too."""
    if os.geteuid() != 0:
        return
    owner, made = directory.stat(), os.fstat(descriptor)
    if owner.st_uid and not made.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_directories(directory: Path, mode: int = 0o700, *, lasting: bool = True) -> None:
    """mkdir -p; every name that this makes lasts on return, unless none needs to (not `lasting`: a cache).
    `mode` is that of all that are made, under the umask. Raises OSError as `Path.mkdir` does:
    `FileExistsError` where there is something else, `NotADirectoryError` where that stands on the way."""
    if directory.is_dir():
        return
    try:
        directory.mkdir(exist_ok=True, mode=mode)
    except FileNotFoundError:
        if directory.parent == directory:
            raise
        make_directories(directory.parent, mode, lasting=lasting)
        directory.mkdir(exist_ok=True, mode=mode)
    if lasting:
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
    text = str(path)
    for one in (text, f"{text}-wal", f"{text}-shm"):
        try:
            about = os.stat(one)  # noqa: PTH116 (at every connection to an index: pathlib takes ten times as long)
        except OSError:
            continue
        if about.st_mode & _OTHERS and about.st_uid == os.geteuid():
            with contextlib.suppress(OSError):
                Path(one).chmod(stat.S_IMODE(about.st_mode) & ~_OTHERS)


def tighten_all(top: Path) -> int:
    """Take `top` and all below it from everybody but the owner, as older releases or hands have left it; how
    many files and directories were open. Links are not followed, and what belongs to another user stays."""
    found = 0
    for directory, _, files in os.walk(top):
        for path in (Path(directory), *(Path(directory, name) for name in files)):
            with contextlib.suppress(OSError):
                about = path.lstat()
                kind_of_ours = stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)
                if kind_of_ours and about.st_mode & _OTHERS and about.st_uid == os.geteuid():
                    path.chmod(stat.S_IMODE(about.st_mode) & ~_OTHERS)
                    found += 1
    return found


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
        with named(path), open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, for the mode)
            os.fchmod(descriptor, mode)
            give_to_owner_of(path.parent, descriptor)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


# -- files that are there whole under their name, or not at all


def temporary_in(directory: Path) -> Path:
    """A name for an unfinished file in `directory`."""
    return directory / f"{TEMPORARY}{secrets.token_hex(12)}"


def write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` with `data`, on disk. `FileExistsError` if it is there."""
    temporary = temporary_in(path.parent)
    with named(path):
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
