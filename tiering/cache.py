"""Blocks of far packs on this machine: bounded, shared by processes, and never believed.

A block is a file. It is in one of a number of *sets*, which one goes by its name. Each set has an equal share
of the room, and a lock. Who adds a block holds the lock of its set, and first removes those that were not
used for the longest time: so the whole is never larger than it may be, and nobody has to look at all of it.

Nothing is synced. Whoever takes a block out compares it with the sum that the store has of it, and removes
it if it is another. So it does not matter what a crash, a full disk or another hand has left here.

Another size of the cache is another number of sets, and a cache begun anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.files import make_directories, private
from cyrus_sync.common.stores.native.farpack import BLOCK

log = logging.getLogger(__name__)

_MOST_SETS = 256
_LEAST_IN_A_SET = 16
"""Blocks: with fewer, chance would decide which blocks stay."""

_FRESH = 60.0
"""Seconds for which a use is not noted again."""

_LOCK = "lock"


class BlockCache:
    """In `directory`, at most `most` octets. Safe for threads and processes; a disk that cannot be used
    costs nothing but the cache."""

    def __init__(self, directory: Path, most: int) -> None:
        self._sets = min(_MOST_SETS, most // (_LEAST_IN_A_SET * BLOCK)) or min(1, most // BLOCK)
        self._share = most // self._sets if self._sets else 0
        self._top = directory
        self._directory = directory / str(self._share)
        self._ready = False

    @property
    def most_blocks(self) -> int:
        """How many there is room for."""
        return self._sets * self._share // BLOCK

    def get(self, key: str, number: int) -> bytes | None:
        """A block of an object, as it was put, or as damage has left it."""
        if not self._sets:
            return None
        path = self._path(key, number)
        try:
            with path.open("rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if time.time() - used > _FRESH:
            with contextlib.suppress(OSError):
                os.utime(path)
        return data

    def put(self, key: str, number: int, data: bytes) -> None:
        if not self._sets or len(data) > self._share:
            return
        path = self._path(key, number)
        try:
            self._prepare()
            path.parent.mkdir(0o700, exist_ok=True)  # not synced: it may be lost
            with _locked(path.parent / _LOCK):
                self._make_room(path.parent, len(data))
                new = path.with_name(f"{path.name}.new")
                with open(new, "wb", opener=private) as file:
                    file.write(data)
                new.replace(path)
        except OSError as error:
            log.debug("%s: %s", path, error)

    def drop(self, key: str, number: int) -> None:
        """A block that is damaged."""
        with contextlib.suppress(OSError):
            self._path(key, number).unlink(missing_ok=True)

    def _path(self, key: str, number: int) -> Path:
        name = hashlib.sha256(f"{key} {number}".encode()).hexdigest()
        return self._directory / f"{int(name[:8], 16) % self._sets:02x}" / name[8:48]

    def _make_room(self, directory: Path, octets: int) -> None:
        """The caller has the lock of that set."""
        kept = []
        for entry in os.scandir(directory):
            if entry.name != _LOCK:
                about = entry.stat()
                kept.append((about.st_mtime, about.st_size, entry.path))
        surplus = sum(size for _, size, _ in kept) + octets - self._share
        for _, size, path in sorted(kept):
            if surplus <= 0:
                break
            Path(path).unlink(missing_ok=True)
            surplus -= size

    def _prepare(self) -> None:
        """Remove what is left of a cache of another size."""
        if self._ready:
            return
        self._ready = True
        make_directories(self._directory)
        for other in self._top.iterdir():
            if other != self._directory:
                shutil.rmtree(other, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab", opener=private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
