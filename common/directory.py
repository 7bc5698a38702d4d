"""Work in a directory that others may write, too: whatever they swap meanwhile, no file of others is harmed.

A directory may be open to many users, and the program may be root. So a directory is opened once, and
everything in it is done by descriptor and name: no symbolic link that somebody puts in its place, or in the
place of a file in it, is followed. A file keeps the descriptor with which it was made or checked; owner,
mode and content are changed through that alone, and its name is renamed or removed only while it still
means the same file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from cyrus_sync.common.errors import EX_FAILURE, CyrusSyncError
from cyrus_sync.common.files import TEMPORARY, named, rename_new, temporary_in, write_all

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BLOCK = 1 << 20
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of write(2) alone: whatever was read meanwhile had no part in them."""


class Tampered(CyrusSyncError):
    """What lies under a name is not what was put there, or nothing that may lie there."""

    exit_status = EX_FAILURE
    text = "not the file that it should be"


class Directory:
    """An open directory. Use as a context manager. `path` is where it was, for people and for notes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """The directory that whoever runs the program has named. OSError."""
        return cls(path, os.open(path, _DIRECTORY))

    @classmethod
    def of(cls, path: Path) -> Self:
        """The directory of the file `path`. OSError, `Tampered` for a link of somebody else."""
        directory = path.absolute().parent
        if directory.name in ("", ".."):
            return cls.open(directory)
        with Directory.open(directory.parent) as above:
            return cls(directory, above.inside(directory.name))

    def inside(self, name: str) -> int:
        """The open directory `name` in this one. A symbolic link is followed only if it is our own or
        root's: nobody else can have made it. OSError, `Tampered`."""
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            about = os.fstat(link)
            if not stat.S_ISLNK(about.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path / name))
            if about.st_uid not in (0, os.geteuid()):
                raise Tampered(f"{self.path / name} is a symbolic link of somebody else")
            return os.open(os.readlink("", dir_fd=link), _DIRECTORY, dir_fd=self.descriptor)
        finally:
            os.close(link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    # -- looking

    def look(self, name: str) -> os.stat_result | None:
        """What lies under `name`, a link itself; None if nothing does."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def holds(self, name: str, descriptor: int) -> bool:
        """True if `name` is the file that is open as `descriptor`."""
        about = self.look(name)
        return about is not None and os.path.samestat(about, os.fstat(descriptor))

    def same_as(self, other: Directory) -> bool:
        return os.path.samestat(os.fstat(self.descriptor), os.fstat(other.descriptor))

    def open_plain(self, name: str) -> int:
        """The descriptor of the plain file `name`. `Tampered` for anything else, OSError."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise Tampered(f"{self.path / name} is not a plain file") from None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise Tampered(f"{self.path / name} is not a plain file")

    # -- changing

    def new_file(self, data: bytes | None = None) -> Unfinished:
        """A file under a temporary name, mode 0600, locked; with `data` in it, if there are any."""
        name = temporary_in(self.path).name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = Unfinished(self, name, os.open(name, flags, 0o600, dir_fd=self.descriptor))
        try:
            fcntl.flock(made.descriptor, fcntl.LOCK_EX)
            if data is not None:
                with named(self.path):
                    write_all(made.descriptor, memoryview(data))
        except BaseException:
            made.discard()
            made.close()
            raise
        return made

    def unfinished(self, name: str) -> Unfinished:
        """The file of this temporary name with what is in it, or a new one, mode 0600, locked. What somebody
        else has put there is removed. `BlockingIOError` if another process has it."""
        for _ in range(2):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                found = Unfinished(self, name, os.open(name, flags, 0o600, dir_fd=self.descriptor))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise
                self.unlink(name)
                continue
            try:
                fcntl.flock(found.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if found.is_ours():
                    return found
            except BaseException:
                found.close()
                raise
            found.discard()
            found.close()
        raise Tampered(f"{self.path / name} is replaced by somebody again and again")

    def rename_new(self, old: str, new: str, to: Directory) -> None:
        """Rename without replacing: `FileExistsError`. One step, also after a crash."""
        rename_new(Path(old), Path(new), self.descriptor, to.descriptor)

    def move(self, old: str, new: str, to: Directory, inode: int) -> None:
        """`rename_new` of the file `inode`. `Tampered` if `old` is not that file, or not any more."""
        self._check(self.look(old), self.path / old, inode)
        self.rename_new(old, new, to)
        try:
            self._check(to.look(new), self.path / old, inode)
        except Tampered:
            with contextlib.suppress(OSError):
                to.rename_new(new, old, self)
            raise

    def unlink(self, name: str) -> None:
        """Remove a name, durably. One that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)
        self.sync()

    def remove(self, name: str, descriptor: int) -> None:
        """`unlink` the open file. `Tampered` if `name` is another file by now; that is left alone."""
        if self.look(name) is not None and not self.holds(name, descriptor):
            raise Tampered(f"{self.path / name} has been replaced by somebody; it is left alone")
        self.unlink(name)

    def sync(self) -> None:
        """Names made or removed last from here on."""
        os.fsync(self.descriptor)

    @staticmethod
    def _check(about: os.stat_result | None, path: Path, inode: int) -> None:
        if about is None:
            raise Tampered(f"{path} has vanished")
        if not stat.S_ISREG(about.st_mode) or about.st_ino != inode:
            raise Tampered(f"{path} has been replaced by somebody")


class Unfinished:
    """A file of ours under a temporary name, and the descriptor with which it was made."""

    def __init__(self, directory: Directory, name: str, descriptor: int) -> None:
        self.directory = directory
        self.name = name
        self.descriptor = descriptor
        self._made = os.fstat(descriptor)

    @property
    def path(self) -> Path:
        return self.directory.path / self.name

    @property
    def inode(self) -> int:
        return self._made.st_ino

    def is_ours(self) -> bool:
        """Whether it is a plain file that nobody else has written, and has no other name."""
        about = os.fstat(self.descriptor)
        mine = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and about.st_nlink == 1
        return mine and not about.st_mode & 0o022 and self._is(self.name)

    def _is(self, name: str) -> bool:
        about = self.directory.look(name)
        return about is not None and os.path.samestat(about, self._made)

    def sync(self) -> None:
        os.fsync(self.descriptor)

    def rename(self, new: str) -> None:
        """Give it its name; `FileExistsError` if that is taken."""
        self.directory.move(self.name, new, self.directory, self.inode)

    def rename_over(self, new: str) -> None:
        """Give it a name that another file has until now. `Tampered` if somebody was in between."""
        if not self._is(self.name):
            raise Tampered(f"{self.path} has been replaced by somebody")
        where = self.directory.descriptor
        os.replace(self.name, new, src_dir_fd=where, dst_dir_fd=where)
        if not self._is(new):
            raise Tampered(f"{self.directory.path / new} has been replaced by somebody")

    def link(self, to: Directory) -> str:
        """A second, temporary name for the same file in another directory. OSError if that cannot be."""
        name = temporary_in(to.path).name
        # By descriptor: its name may be another file by now.
        os.link(f"/proc/self/fd/{self.descriptor}", name, dst_dir_fd=to.descriptor, follow_symlinks=True)
        return name

    def discard(self) -> None:
        """Remove it if it is there still."""
        with contextlib.suppress(OSError):
            if self._is(self.name):
                os.unlink(self.name, dir_fd=self.directory.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()
        self.close()
        if isinstance(error, OSError) and error.errno in _WRITING and error.filename is None:
            error.filename = str(self.directory.path)


def is_unfinished(name: str) -> bool:
    return name.startswith(TEMPORARY)


def copy_all(source: int, target: int) -> None:
    """Copy an open file to its end, without moving the position of `source`."""
    offset = 0
    while block := os.pread(source, _BLOCK, offset):
        write_all(target, memoryview(block))
        offset += len(block)
