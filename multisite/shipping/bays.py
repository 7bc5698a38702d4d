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

from common.files import make_directories, sync_directory
from multisite.shipping.errors import ShippingError
from multisite.shipping.names import alternatives, order_name


@dataclass(frozen=True, slots=True)
class Bay:
    """One bay. `made_by_us`: a default one, which is made when it is needed."""

    path: Path
    made_by_us: bool = False

    @property
    def incoming(self) -> Path:
        return self.path / "incoming"

    @property
    def outgoing(self) -> Path:
        return self.path / "outgoing"

    def ready(self) -> Bay:
        """The bay, with its two directories. `ShippingError` if a configured bay is not there."""
        if self.made_by_us:
            make_directories(self.path, 0o700)
        if not self.path.is_dir():
            raise ShippingError(
                f"the bay {self.path} is not a directory; make it, with the owner and mode wanted"
            )
        about = self.path.stat()
        for directory in (self.incoming, self.outgoing):
            if not directory.is_dir():
                with contextlib.suppress(FileExistsError):
                    directory.mkdir()
                    with contextlib.suppress(PermissionError):
                        os.chown(directory, about.st_uid, about.st_gid)
                    directory.chmod(stat.S_IMODE(about.st_mode))
                    sync_directory(self.path)
        return self

    def file_mode(self) -> int:
        """Read and write bits of the bay; execute and special bits do not count."""
        return stat.S_IMODE(self.path.stat().st_mode) & 0o666

    def adopt(self, descriptor: int) -> None:
        """Give an open file the owner, group and mode of the bay. Only root can give a file away."""
        about = self.path.stat()
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, about.st_uid, about.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(about.st_mode) & 0o666)


def free_name(wanted: Path) -> Path:
    """`wanted`, or the first ``wanted_<n>`` that is free for a data file and for its order."""
    for name in alternatives(wanted.name):
        path = wanted.with_name(name)
        if not os.path.lexists(path) and not os.path.lexists(path.with_name(order_name(name))):
            return path
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
    for bay in bays:
        space = free(bay.ready().path)
        most = max(most, space)
        if space >= size and space > best_free:
            best, best_free = bay, space
    if best is None:
        raise ShippingError(f"no bay has room for {size} bytes (at most {most} are free)")
    return best
