"""Bays: directories with ``incoming/`` and ``outgoing/``, where files wait for import or for transport.

A file that comes into a bay gets the bay's owner and group, and as mode the bay's read and write bits.
With several bays, the one with the most free space takes the file.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cyrus_sync.common.directory import Directory
from cyrus_sync.common.files import make_directories
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.names import alternatives, order_name

INCOMING, OUTGOING = "incoming", "outgoing"


@dataclass(frozen=True, slots=True)
class Bay:
    """One bay. `made_by_us`: a default one, which is made when it is needed."""

    path: Path
    made_by_us: bool = False

    @property
    def incoming(self) -> Path:
        return self.path / INCOMING

    @property
    def outgoing(self) -> Path:
        return self.path / OUTGOING

    def ready(self) -> Bay:
        """The bay, with its two directories. `ShippingError` if a configured bay is not there."""
        if self.made_by_us:
            make_directories(self.path, 0o700)
        if not self.path.is_dir():
            raise ShippingError(
                f"the bay {self.path} is not a directory; make it, with the owner and mode wanted"
            )
        with Directory.open(self.path) as bay:
            for part in (INCOMING, OUTGOING):
                if bay.look(part) is None:
                    self._make(bay, part)
        return self

    def _make(self, bay: Directory, part: str) -> None:
        """A directory of the bay, with its owner, group and mode."""
        about = os.fstat(bay.descriptor)
        try:
            os.mkdir(part, 0o700, dir_fd=bay.descriptor)
        except FileExistsError:
            return
        with Directory(self.path / part, bay.inside(part)) as made:
            found = os.fstat(made.descriptor)
            if found.st_uid != os.geteuid() or os.listdir(made.descriptor):  # noqa: PTH208
                raise ShippingError(f"{made.path} has been replaced by somebody")
            with contextlib.suppress(PermissionError):
                os.fchown(made.descriptor, about.st_uid, about.st_gid)
            os.fchmod(made.descriptor, stat.S_IMODE(about.st_mode))
        bay.sync()

    def open(self, part: str) -> Directory:
        """`INCOMING` or `OUTGOING`. OSError, `Tampered` if somebody has put a link in its place."""
        with Directory.open(self.path) as bay:
            return Directory(self.path / part, bay.inside(part))

    def adopt(self, descriptor: int) -> None:
        """Give an open file the owner, group and mode of the bay. Only root can give a file away."""
        self._adopt(descriptor, 0o666)

    def adopt_order(self, descriptor: int) -> None:
        """The same for an order. An order speaks for its owner, so nobody else may write into it."""
        self._adopt(descriptor, 0o644)

    def _adopt(self, descriptor: int, bits: int) -> None:
        about = self.path.stat()
        os.fchmod(descriptor, stat.S_IMODE(about.st_mode) & bits)
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, about.st_uid, about.st_gid)


def free_name(wanted: Path) -> Path:
    """`wanted`, or the first ``wanted_<n>`` that is free for a data file and for its order."""
    with Directory.of(wanted) as directory:
        return wanted.with_name(free_name_in(directory, wanted.name))


def free_name_in(directory: Directory, wanted: str) -> str:
    """The same, of an open directory."""
    for name in alternatives(wanted):
        if directory.look(name) is None and directory.look(order_name(name)) is None:
            return name
    raise AssertionError("unreachable")


def free_space(directory: Path) -> int:
    """Bytes that we may still write there."""
    about = os.statvfs(directory)
    return about.f_bavail * about.f_frsize


def choose_bay(bays: Iterable[Bay], size: int, free: Callable[[Path], int] = free_space) -> Bay:
    """The bay with the most free space, of those that hold `size` bytes; the first of equals."""
    best: Bay | None = None
    best_free = -1
    most = 0
    names: list[str] = []
    for bay in bays:
        names.append(str(bay.path))
        space = free(bay.ready().path)
        most = max(most, space)
        if space >= size and space > best_free:
            best, best_free = bay, space
    if best is None:
        where = ", ".join(names)
        raise ShippingError(f"no bay has room for {size} bytes (at most {most} are free): {where}")
    return best
