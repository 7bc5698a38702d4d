"""Messages whose stored copy was found damaged: remembered until they are stored anew.

One file for each owner in ``<configdirectory>/store/damaged``: the owner, then a GUID a line. Whoever reads a
message and finds it damaged, or `verify`, adds a line; a writer that is given such a message stores it anew
and strikes it out. A mark is a hint: it never makes a message unreadable, and a lost one costs no more than
finding the damage again. So nothing here is synced, and a disk that takes no marks stops nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from cyrus_sync.common.files import make_directories, private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import encode_name


class Marks:
    """The marks of one owner; as good as a set of GUIDs. Safe for several threads and processes."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self._path = path
        self._owner = owner
        self._lock = threading.Lock()
        self._guids: set[bytes] = set()
        self._stamp: tuple[int, int] | None = None

    def __contains__(self, guid: object) -> bool:
        return guid in self._now()

    def __iter__(self) -> Iterator[bytes]:
        return iter(sorted(self._now()))

    def __len__(self) -> int:
        return len(self._now())

    def add(self, guid: bytes) -> None:
        """The stored copy of this message is damaged."""
        with self._lock:
            self._read()
            if guid in self._guids:
                return
            self._guids.add(guid)
            with contextlib.suppress(OSError):
                make_directories(self._path.parent)
                new = not self._path.exists()
                with open(self._path, "a", encoding="ascii", opener=private) as file:
                    if new:
                        file.write(json.dumps(self._owner) + "\n")
                    file.write(guid.hex() + "\n")
                self._stamp = self._stat()

    def discard(self, guid: bytes) -> None:
        self.difference_update((guid,))

    def difference_update(self, guids: Iterable[bytes]) -> None:
        """These messages have been stored anew."""
        with self._lock:
            self._read()
            if self._guids.isdisjoint(guids := set(guids)):
                return
            self._guids -= guids
            with contextlib.suppress(OSError):
                self._write()

    def _now(self) -> set[bytes]:
        """What is marked, by other processes too."""
        with self._lock:
            self._read()
            return set(self._guids)

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._guids = set(_guids(self._path))

    def _write(self) -> None:
        if not self._guids:
            self._path.unlink(missing_ok=True)
            self._stamp = None
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        lines = [json.dumps(self._owner), *(guid.hex() for guid in sorted(self._guids))]
        with open(new, "w", encoding="ascii", opener=private) as file:
            file.writelines(line + "\n" for line in lines)
        new.replace(self._path)
        self._stamp = self._stat()


class MarkedOwners:
    """The marks of all owners of a store. Kept are those of owners whom somebody uses: they are files, and a
    store's memory does not follow the number of its users."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._marks: WeakValueDictionary[Owner, Marks] = WeakValueDictionary()
        self._lock = threading.Lock()

    def of(self, owner: Owner) -> Marks:
        with self._lock:
            found = self._marks.get(owner)
            if found is None:
                path = self._directory / f"{owner.kind}-{encode_name(owner.name)}"
                found = self._marks[owner] = Marks(path, owner)
            return found

    def owners(self) -> list[Owner]:
        """Everybody of whom a message is marked."""
        found = []
        for path in sorted(self._directory.glob("*-*")):
            with contextlib.suppress(OSError, ValueError, TypeError), path.open(encoding="ascii") as file:
                found.append(Owner(*json.loads(file.readline())))
        return found


def _guids(path: Path) -> Iterator[bytes]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            guid = bytes.fromhex(line)
            if len(guid) == 20:
                yield guid
