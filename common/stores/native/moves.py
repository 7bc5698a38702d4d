"""An owner's way from one partition to another, as disks see it: two renames, and what a crash leaves.

The copy is made in ``.moving-<name>`` on the partition he goes to, whose lock says that somebody is at it.
Once it is complete and synced::

    the old directory becomes ``.moved-<name>``    the move counts from here on
    the copy gets his name
    what has his old mail is removed

So he is whole at one place at any time. Between the first two he is at no place that is his: whoever looks
for him then, after a crash too, does the second (`end`); who only reads waits for it. A copy that was given
up and what is left of an old directory are removed by the next move of the same owner, and by `clear`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.filelock import lock_within
from cyrus_sync.common.files import make_directories, sync_directory, sync_file
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, LOCK, Layout, remains
from cyrus_sync.common.stores.native.locks import FileLock, Gone

MOVING = ".moving-"
MOVED = ".moved-"

_PATIENCE = 10.0
"""Seconds to wait for a mover between its two renames."""


def moving_name(name: str) -> str:
    """Whose directory, by its name, one of these is; "" for any other."""
    for prefix in (MOVING, MOVED):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return ""


def check_room(place: Path, octets: int) -> None:
    """Raises `StoreError` where so many octets are too many for the disk of `place`; OSError."""
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    if free < octets:
        raise StoreError(f"{place} has room for {free:,} octets, and {octets:,} are to come")


class Arrival:
    """The directory in which a copy of an owner is made, locked. What is not `settle`d is gone at `close`."""

    def __init__(self, path: Path, place: Path, lock: FileLock) -> None:
        self.path = path
        self._place = place
        self._lock: FileLock | None = lock
        self._needless: Path | None = path

    def settle(self, old: Path) -> None:
        """The copy is complete, and takes the place of the directory `old`, whose lock the caller has. Raises
        OSError."""
        for file in self.path.iterdir():
            if file.name != LOCK:
                sync_file(file)
        sync_directory(self.path)
        sync_directory(self.path.parent)
        gone = _moved(old)
        self._needless = None  # if this fails from here on, `Moves.end` does the rest
        old.rename(gone)
        sync_directory(gone.parent)
        self.path.rename(self._place)
        sync_directory(self._place.parent)
        self._needless = gone

    def close(self) -> None:
        """Let go, and remove what is needless now. What cannot be removed stays for `Moves.clear`."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if self._needless == self.path:
            with contextlib.suppress(OSError):
                _remove(self.path)
        lock.release()
        if self._needless not in (None, self.path):
            with contextlib.suppress(OSError):
                _remove(self._needless)


class Moves:
    """The moves of a `Layout`'s owners. Safe for several threads and processes."""

    def __init__(
        self, layout: Layout, is_known: Callable[[str, str], bool], *, readonly: bool = False
    ) -> None:
        """`is_known`: whether the registry names anybody of this kind whose directory has this name.
        `readonly`: nobody is brought to his place."""
        self._layout = layout
        self._readonly = readonly
        self._is_known = is_known

    def begin(self, owner: Owner, partition: str) -> Arrival:
        """Make a directory on `partition` for a copy of the owner, who is on another one. Raises
        `MailboxLocked` where somebody else moves him, `StoreError` where something is in his place."""
        place = self._layout.directory(owner, partition)
        path = place.with_name(MOVING + place.name)
        with self._alone():
            if not self._clear(self._layout.places(owner)):
                raise MailboxLocked(f"{owner} is being moved already")
            if path.exists():
                raise StoreError(f"{path} is what is left of the owner, who is at no other place")
            if place.is_symlink() or place.exists():
                if remains(place):
                    raise StoreError(f"{place} is in the way: something of this owner is there already")
                shutil.rmtree(place)
            make_directories(path, 0o700)
            return Arrival(path, place, FileLock(path / LOCK, timeout=0))

    def end(self, owner: Owner) -> bool:
        """Whether the owner, who was not found, has just been moved, or a crash came between the two
        renames: he has his place then. Raises `MailboxLocked`, OSError; `StoreError` where a crash came and
        all is `readonly`."""
        places = self._layout.places(owner)
        if not any(_moved(place).is_dir() for place in places):
            return False
        if self._readonly:
            copies = [_moving(place) for place in places]
            if any(is_held(path, _PATIENCE) for path in copies):
                raise MailboxLocked(f"{owner} is being moved")
            if self._layout.find(owner) is None and any((path / INDEX).exists() for path in copies):
                raise StoreError("is between two partitions: the next who writes ends the interrupted move")
            return self._layout.find(owner) is not None
        for place in places:
            path = _moving(place)
            with contextlib.suppress(Gone, FileNotFoundError), FileLock(path / LOCK, _PATIENCE):
                if self._layout.find(owner) is None and (path / INDEX).exists():
                    path.rename(place)
                    sync_directory(place.parent)
        return self._layout.find(owner) is not None

    def left(self) -> Iterator[Path]:
        """What moves have left behind that were interrupted."""
        for path in self._all():
            if not any(is_held(_moving(place)) for place in self._places_beside(path)):
                yield path

    def _all(self) -> Iterator[Path]:
        """The same, and what is being moved now."""
        for kind in KINDS.values():
            for top in self._layout.partitions.values():
                for prefix in (MOVING, MOVED):
                    yield from sorted((top / kind).glob(f"*/{prefix}*"))

    def places(self, kind: str) -> Iterator[Path]:
        """Where those have their place, or will have it, who are being moved or were."""
        for path in self._all():
            if path.parents[1].name == KINDS[kind]:
                yield path.with_name(moving_name(path.name))

    def clear(self) -> Iterator[Path]:
        """End or remove what `left` finds, but for what somebody is at; what is gone. Trouble with one keeps
        no other: `StoreError` at the end names them all."""
        if not (found := list(self.left())):
            return
        troubles: dict[str, None] = {}
        with self._alone():
            for path in found:
                try:
                    self._clear(self._places_beside(path))
                except (StoreError, OSError, sqlite3.Error) as error:
                    troubles[str(error)] = None
        yield from (path for path in found if not path.exists())
        if troubles:
            raise StoreError("; ".join(troubles))

    def clear_of(self, owner: Owner) -> bool:
        """The same for one owner; whether anything is gone. Raises `StoreError`, OSError, sqlite3.Error."""
        places = self._layout.places(owner)
        found = [path for place in places for path in (_moving(place), _moved(place)) if path.is_dir()]
        if found:
            with self._alone():
                self._clear(places)
        return any(not path.exists() for path in found)

    def _places_beside(self, path: Path) -> list[Path]:
        """Where the owner may be of whom one of these is."""
        inside = Path(path.parents[1].name) / path.parents[0].name / moving_name(path.name)
        return [top / inside for top in self._layout.partitions.values()]

    def _clear(self, places: list[Path]) -> bool:
        """The same for one owner, who may be at one of `places`; whether nobody is at it."""
        with contextlib.ExitStack() as stack:
            for path in map(_moving, places):
                if path.is_dir():
                    try:
                        stack.enter_context(FileLock(path / LOCK, timeout=0))
                    except (MailboxLocked, Gone, FileNotFoundError):
                        return False  # or has just come to an end
            if not any((place / INDEX).exists() for place in places):
                kind = next(name for name, top in KINDS.items() if top == places[0].parents[1].name)
                if any(_moved(place).is_dir() for place in places):
                    self._show(places)
                elif self._is_known(kind, places[0].name):
                    return True  # He may be on a disk that is away.
            for place in places:
                for path in (_moving(place), _moved(place)):
                    if path.is_dir():
                        _remove(path)
        return True

    def _show(self, places: list[Path]) -> None:
        for place in places:
            if (_moving(place) / INDEX).exists():
                _moving(place).rename(place)
                sync_directory(place.parent)
                return
        raise StoreError(f"{_moved(places[0]).name}: what it was moved to is not there")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        make_directories(self._layout.home)
        with FileLock(self._layout.home / "move.lock", timeout=10):
            yield


def _moving(place: Path) -> Path:
    return place.with_name(MOVING + place.name)


def _moved(place: Path) -> Path:
    return place.with_name(MOVED + place.name)


def is_held(path: Path, patience: float = 0) -> bool:
    """Whether somebody has the lock of a directory, which may not be there, for `patience` seconds yet."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not lock_within(descriptor, patience)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """All of a directory, which somebody else may be removing as well."""
    while path.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
    sync_directory(path.parent)
