"""An owner's open files: connections to its index and its packs, kept for the next use.

A connection serves one reader or writer at a time; who is done gives it back. The directory is known by
the inode of its index: if that changes (the owner was dropped and came back), everything is opened anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from common.names import Owner
from common.stores.native import schema
from common.stores.native.bodies import BodyReader, Stored, lookup
from common.stores.native.layout import INDEX, LOCK
from common.stores.native.locks import FileLock
from common.stores.native.packs import PackReader, PackWriter
from common.stores.native.transaction import Ground

_IDLE = 2


class Session:
    """A connection with what belongs to it."""

    def __init__(self, opened: OpenOwner, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.packs = PackReader(opened.directory)
        self.bodies = BodyReader(connection, self.packs, opened.places_now, opened.damaged)

    def close(self) -> None:
        self.packs.close()
        self.connection.close()


class OpenOwner:
    """The open files of one owner. Safe for several threads."""

    def __init__(self, owner: Owner, directory: Path, damaged: set[bytes], *, readonly: bool) -> None:
        self.owner = owner
        self.directory = directory
        self.damaged = damaged
        self.in_use = 0
        self._readonly = readonly
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._closed = False
        self.identity = self.index_identity()

    def index_identity(self) -> tuple[int, int]:
        """What tells this index from another at the same path; raises FileNotFoundError."""
        found = (self.directory / INDEX).stat()
        return found.st_dev, found.st_ino

    def take(self) -> Session:
        """A connection that nobody uses. Raises `StoreError`, sqlite3.Error."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Session(self, self._connect())

    def give_back(self, session: Session, *, reusable: bool = True) -> None:
        """Return what `take` gave; a connection that met trouble is closed."""
        with self._lock:
            if reusable and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(session)
                return
        session.close()

    def _connect(self) -> sqlite3.Connection:
        path = self.directory / INDEX
        try:
            return schema.connect(path, readonly=self._readonly)
        except schema.OldVersion:
            if self._readonly:
                raise
            with FileLock(self.directory / LOCK, timeout=60):
                schema.upgrade(path)
            return schema.connect(path, readonly=False)

    def ground(self, session: Session, *, new: bool) -> Ground:
        """What a writer stands on; the caller holds the owner's lock. `new` = it has just been made."""
        lengths = dict(session.connection.execute("SELECT pack, length FROM packs"))
        packs = PackWriter(self.directory, lengths, new_directory=new)
        return Ground(session.connection, packs, session.bodies)

    def places_now(self, guids: Sequence[bytes]) -> dict[bytes, Stored]:
        """Where messages are in the index as it is now, whatever a snapshot says."""
        session = self.take()
        try:
            return lookup(session.connection, guids)
        finally:
            self.give_back(session)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()
