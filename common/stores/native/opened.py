"""An owner's open files: connections to its index and its packs, kept for the next use.

A connection serves one reader or writer at a time; who is done gives it back. Before every use the home is
asked whether the directory is still the owner's: if another index is there (the owner was dropped and came
back), everything is opened anew.

What is kept costs memory: pages of the index, and ten times what an open file takes for prepared statements.
Closing the last connection to an index costs a checkpoint. So `OpenFiles` keeps many owners open, but pages
only of the very last ones, statements of some more, and of all others one bare connection: a store's memory
follows neither the number of users nor their size. A pack that another process has removed takes its room on
the disk as long as it is open here: whoever is not used for minutes is cooled too.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import islice

from cyrus_sync.common.descriptors import share_out
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.bodies import BodyReader, Stored, lookup
from cyrus_sync.common.stores.native.homes import OwnerDirectory, OwnerHome
from cyrus_sync.common.stores.native.marks import MarkedOwners, Marks
from cyrus_sync.common.stores.native.packs import PackReader
from cyrus_sync.common.stores.native.transaction import Ground

_IDLE = 2
"""Connections that are kept of an owner."""

_MOST_WARM = 128
"""More than a client has in flight: whoever is read four times in a second is not opened four times."""

_MOST_HOT = 8

_COOL_AFTER = 120.0
"""Seconds after the last use in which an owner becomes cool, at the next use of another one."""


class Heat(IntEnum):
    """What is kept of an owner whom nobody uses at the moment."""

    COOL = 0
    """An open connection that has done nothing yet; none of an owner who was only read."""
    WARM = 1
    """Prepared statements too."""
    HOT = 2
    """Pages too."""


class OpenIndex:
    """A connection with what belongs to it."""

    def __init__(self, opened: OpenOwner, connection: sqlite3.Connection, packs: PackReader) -> None:
        self.connection = connection
        self.packs = packs
        self.bodies = BodyReader(connection, self.packs, opened.places_now, opened.damaged)

    def drop_pages(self) -> None:
        """Let go of the pages of the index; they can be read again."""
        self.connection.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        self.packs.close()
        self.connection.close()


class OpenOwner:
    """The open files of one owner. Safe for several threads."""

    def __init__(self, directory: OwnerDirectory, home: OwnerHome, damaged: Marks) -> None:
        self.directory = directory
        self.damaged = damaged
        self.in_use = 0
        self.used = 0.0
        """When it was used last (`time.monotonic`)."""
        self.written = False
        """Whether anything was committed since it was opened."""
        self._home = home
        self._idle: list[OpenIndex] = []
        self._lock = threading.Lock()
        self._closed = False
        self._heat = Heat.HOT

    def take(self, *, held: bool = False) -> OpenIndex:
        """A connection that nobody uses; `held`: for one who holds the owner. Raises `StoreError`,
        sqlite3.Error."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect(held=held)

    def give_back(self, index: OpenIndex, *, reusable: bool = True) -> None:
        """Return what `take` gave; a connection that met trouble is closed."""
        kept = self._cooled(index) if reusable else None
        with self._lock:
            if kept is not None and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(kept)
                kept = None
        if kept is not None:
            kept.close()
        if not reusable:
            index.close()

    def heat(self, heat: Heat) -> None:
        """What is to be kept from now on."""
        cooler = heat < self._heat
        self._heat = heat
        if not cooler:
            return
        with self._lock:
            idle, self._idle = self._idle, []
        for index in idle:
            self.give_back(index)

    def _cooled(self, index: OpenIndex) -> OpenIndex | None:
        """`index`, or what is to be kept in its place. A new connection comes before the old one goes."""
        heat = self._heat
        if heat is Heat.HOT:
            return index
        fresh = None
        with contextlib.suppress(sqlite3.Error, CyrusSyncError):
            if heat is Heat.WARM:
                index.drop_pages()
                return index
            if self.written and not self._idle:
                fresh = self._connect()
                fresh.drop_pages()
        index.close()
        return fresh

    def _connect(self, *, held: bool = False) -> OpenIndex:
        connection = self._home.open_index(self.directory, held=held)
        return OpenIndex(self, connection, PackReader(self._home.packs(self.directory)))

    def ground(self, index: OpenIndex) -> Ground:
        """What a writer stands on; the caller holds the owner's lock."""
        lengths = dict(index.connection.execute("SELECT pack, length FROM packs"))
        packs = self._home.pack_writer(self.directory, lengths)
        return Ground(index.connection, packs, index.bodies)

    def places_now(self, guids: Sequence[bytes]) -> dict[bytes, Stored]:
        """Where messages are in the index as it is now, whatever a snapshot says."""
        now = self._home.find(self.directory.owner, self.directory)
        if now is not None and now != self.directory:  # moved to another partition, or made anew
            with contextlib.closing(self._home.open_index(now)) as connection:
                return lookup(connection, guids)
        index = self.take()
        try:
            return lookup(index.connection, guids)
        finally:
            self.give_back(index)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for index in idle:
            index.close()

    def glance(self) -> sqlite3.Connection | None:
        """A connection that nobody uses, and that stays here; None if there is none."""
        with self._lock:
            return self._idle[-1].connection if self._idle else None


def _most_open() -> int:
    """Owners whose files are kept open: so many that most descriptors are left to others."""
    return share_out().owners


class OpenFiles:
    """The owners whose files are open, the last used at the end. Safe for several threads."""

    def __init__(
        self, home: OwnerHome, marks: MarkedOwners, retire: Callable[[OpenOwner], None] | None = None
    ) -> None:
        """`retire` closes an owner's files of which nobody makes use any more."""
        self.most = _most_open()
        self._retire = retire or OpenOwner.close
        self._home = home
        self._marks = marks
        self._lock = threading.Lock()
        self._open: OrderedDict[Owner, OpenOwner] = OrderedDict()
        self._warm: OrderedDict[Owner, OpenOwner] = OrderedDict()
        self._hot: OrderedDict[Owner, OpenOwner] = OrderedDict()

    def known(self, owner: Owner) -> OwnerDirectory | None:
        """Where the owner was when it was last used, if that was not long ago."""
        opened = self._open.get(owner)
        return opened.directory if opened else None

    def take(self, directory: OwnerDirectory) -> OpenOwner:
        """The files in this directory, not to be closed before `give_back`."""
        with self._lock:
            opened = stale = self._open.get(directory.owner)
            if opened is None or opened.directory != directory:
                self._pop(directory.owner)
                opened = OpenOwner(directory, self._home, self._marks.of(directory.owner))
            else:
                stale = None
            opened.in_use += 1
            self._used(opened)
            self._close_surplus()
        if stale is not None:
            stale.close()
        return opened

    def give_back(self, opened: OpenOwner) -> None:
        with self._lock:
            opened.in_use -= 1

    def forget(self, owner: Owner) -> None:
        """Close the owner's files: its directory is about to change or go, or has gone."""
        with self._lock:
            opened = self._pop(owner)
        if opened:
            opened.close()

    def close(self) -> None:
        with self._lock:
            everything = list(self._open.values())
            for kept in (self._open, self._warm, self._hot):
                kept.clear()
        for opened in everything:
            self._retire(opened)

    def _pop(self, owner: Owner) -> OpenOwner | None:
        self._warm.pop(owner, None)
        self._hot.pop(owner, None)
        return self._open.pop(owner, None)

    def _close_surplus(self) -> None:
        """Close those that nobody has used for the longest time."""
        surplus = len(self._open) - self.most
        if surplus <= 0:
            return
        idle = (one for one, each in self._open.items() if not each.in_use)
        for owner in list(islice(idle, surplus)):
            self._retire(self._open[owner])
            self._pop(owner)

    def _used(self, opened: OpenOwner) -> None:
        owner = opened.directory.owner
        opened.used = time.monotonic()
        for kept in (self._open, self._warm, self._hot):
            kept[owner] = opened
            kept.move_to_end(owner)
        opened.heat(Heat.HOT)
        if len(self._hot) > _MOST_HOT:
            self._hot.popitem(last=False)[1].heat(Heat.WARM)
        if len(self._warm) > _MOST_WARM:
            self._warm.popitem(last=False)[1].heat(Heat.COOL)
        self._cool_old(opened.used - _COOL_AFTER)

    def _cool_old(self, before: float) -> None:
        """One at each use: then there are never many."""
        for owner, oldest in self._warm.items():
            if oldest.used < before:
                del self._warm[owner]
                self._hot.pop(owner, None)
                oldest.heat(Heat.COOL)
            return
