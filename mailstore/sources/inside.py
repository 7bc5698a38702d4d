"""Files below a directory, opened so that no symbolic link leads out of it.

Root imports for a user who may change the directory meanwhile: every step is opened from the one before with
``O_NOFOLLOW``; a link is read and gone along from there, and one that leads out, or into a circle, is
refused. Nothing else than files and directories is read (a FIFO would wait for ever). Hard links are files
as others are. The top itself may be a link: it is what was typed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MOST_LINKS = 40


class LeadsOut(OSError):
    """A symbolic link whose target is not below the top."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ELOOP, "a symbolic link that leads out of what is imported", path)


class DirectoryEntry(NamedTuple):
    """A name in a directory. `kind` is "file", "directory", "link" or "other"."""

    name: str
    kind: str


class Inside:
    """The tree below `top`. Places are paths as tuples of names, () is the top. Raises OSError."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._top = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._real = os.path.realpath(top)

    def __del__(self) -> None:
        if hasattr(self, "_top"):
            os.close(self._top)

    def path(self, place: Sequence[str]) -> str:
        """`place` as a person reads it."""
        return "/".join((str(self.top), *place))

    @contextmanager
    def directory(self, place: Sequence[str]) -> Iterator[int]:
        """A descriptor of a directory. Raises `LeadsOut`, NotADirectoryError."""
        fd = self._open(place)
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path(place))
            yield fd
        finally:
            os.close(fd)

    def file(self, place: Sequence[str]) -> BinaryIO:
        """A regular file to read. Raises `LeadsOut`, and OSError for what is none."""
        fd = self._open(place)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", self.path(place))
        return open(fd, "rb", buffering=0)  # noqa: PTH123 # a descriptor, not a path

    def read(self, place: Sequence[str]) -> bytes:
        """The octets of a small file."""
        with self.file(place) as file:
            return file.read()

    def entries(self, place: Sequence[str]) -> list[DirectoryEntry]:
        """What is in a directory, by name."""
        with self.directory(place) as fd, os.scandir(fd) as found:
            return sorted(DirectoryEntry(entry.name, _kind(entry)) for entry in found)

    def is_directory(self, place: Sequence[str]) -> bool:
        """Whether a directory is there, or a link to one within."""
        try:
            with self.directory(place):
                return True
        except OSError:
            return False

    def _open(self, place: Sequence[str]) -> int:
        held = [os.dup(self._top)]
        steps = list(reversed(place)) or ["."]
        links = 0
        try:
            while steps:
                step = steps.pop()
                if step == "..":
                    if len(held) == 1:
                        raise LeadsOut(self.path(place))
                    os.close(held.pop())
                elif step not in ("", "."):
                    try:
                        held.append(os.open(step, _FLAGS, dir_fd=held[-1]))
                    except OSError as error:
                        if error.errno != errno.ELOOP:
                            raise OSError(error.errno, error.strerror, self.path(place)) from None
                        links += 1
                        if links > _MOST_LINKS:
                            raise OSError(error.errno, error.strerror, self.path(place)) from None
                        steps += reversed(self._target(held, step, place))
            return held.pop()
        finally:
            for fd in held:
                os.close(fd)

    def _target(self, held: list[int], link: str, place: Sequence[str]) -> list[str]:
        """Where a link leads from here, in steps; for an absolute one `held` is brought back to the top."""
        target = os.readlink(link, dir_fd=held[-1])
        if not target.startswith("/"):
            return target.split("/")
        if target != self._real and not target.startswith(self._real + "/"):
            raise LeadsOut(self.path(place))
        while len(held) > 1:
            os.close(held.pop())
        return target[len(self._real) :].split("/")


class Placed:
    """One file below the top, to be opened as a path is."""

    def __init__(self, inside: Inside, place: Sequence[str]) -> None:
        self._inside = inside
        self._place = tuple(place)

    def __str__(self) -> str:
        return self._inside.path(self._place)

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """As `Inside.file`."""
        return self._inside.file(self._place)

    def stat(self) -> os.stat_result:
        with self.open("rb") as file:
            return os.fstat(file.fileno())


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
