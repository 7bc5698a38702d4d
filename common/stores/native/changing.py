"""`Change`: one owner held for a change, from the lock to the line in the action log.

Order of the end: the registry learns what comes, the commit is made and published, the registry forgets what
goes, the action log is written. An owner that is not stored comes into being with the first change; if that
is undone, the owner goes again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Protocol

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import Grown, Hold, OwnerHome
from cyrus_sync.common.stores.native.loglines import Line, LogLines
from cyrus_sync.common.stores.native.opened import OpenFiles
from cyrus_sync.common.stores.native.transaction import Ground, Transaction


class Surrounding(Protocol):
    """The store around a change."""

    home: OwnerHome
    open: OpenFiles
    lines: LogLines
    servername: str

    def now(self) -> int:
        """Unix seconds."""

    def holders(self, uniqueid: str) -> Iterator[Owner]:
        """Owners that hold the mailbox."""


class Change:
    """What the store is to one transaction (`transaction.Surroundings`). What is held goes back when `stack`
    ends."""

    def __init__(self, store: Surrounding, owner: Owner, stack: contextlib.ExitStack) -> None:
        self.servername = store.servername
        self.now = store.now
        self.check_partition = store.home.check_partition
        self._store = store
        self._owner = owner
        self._stack = stack
        self._hold: Hold | None = None
        self._ground: Ground | None = None
        self._made = self._unpublished = False
        self._changes = 0

    def begin(self, timeout: float) -> Transaction:
        """A transaction on the owner, held; for one who is not stored, on an empty index. `MailboxLocked`
        after `timeout` seconds."""
        store, owner = self._store, self._owner
        self._hold = store.home.hold(owner, timeout, store.open.known(owner))
        if self._hold is not None:
            return Transaction(owner, self, self._stand_on(self._hold), None)
        store.open.forget(owner)
        store.home.check_unknown(owner)
        memory = schema.memory_index()
        self._stack.callback(memory.close)
        return Transaction(owner, self, None, memory)

    def found(self, owner: Owner, partition: str) -> Ground:
        self._hold = self._store.home.make(owner, partition)
        self._made = True
        return self._stand_on(self._hold)

    def _stand_on(self, hold: Hold) -> Ground:
        """What a transaction works on; a connection that is left in a transaction is closed afterwards."""
        files = self._store.open
        try:
            opened = files.take(hold.directory)
        except BaseException:
            hold.close()
            raise
        self._stack.callback(files.give_back, opened)
        self._stack.callback(hold.close)
        index = opened.take(held=True)
        self._stack.callback(lambda: opened.give_back(index, reusable=not index.connection.in_transaction))
        self._ground = opened.ground(index, new=self._made)
        self._stack.callback(self._ground.packs.close)
        self._changes = index.connection.total_changes
        return self._ground

    def other_holder(self, uniqueid: str) -> Owner | None:
        return next((owner for owner in self._store.holders(uniqueid) if owner != self._owner), None)

    def commit(self, transaction: Transaction) -> list[Line]:
        """Make what was done last. The lines of the action log that it has written, or left to be written."""
        if self._hold is None:
            return []
        registry, lines = self._store.home.registry, self._store.lines
        last = dict(transaction.hints)  # one may go and come again
        coming = [hint for hint in last.items() if hint[1] is not None]
        going = [hint for hint in last.items() if hint[1] is None]
        if coming:
            registry.note(coming, self._owner)
        leaves_lines = lines.announce(transaction)
        written = self._publish(transaction, self._hold)
        if going:
            registry.note(going, self._owner)
        if leaves_lines:
            lines.write(transaction, written)
        return written

    def _publish(self, transaction: Transaction, hold: Hold) -> list[Line]:
        lines: list[Line] = []

        def commit() -> Grown | None:
            lines.extend(transaction.commit(keep_lines=self._store.lines.kinds))
            self._unpublished = True
            assert self._ground is not None
            changed = self._ground.connection.total_changes != self._changes
            return self._ground.packs.grown if changed else None

        self._store.home.publish(hold, commit)
        self._unpublished = False
        return lines

    def undo(self, transaction: Transaction) -> None:
        """Roll back; an owner that the transaction brought into being goes again, and so does a commit that
        could not be published."""
        with contextlib.suppress(sqlite3.Error, OSError):
            transaction.rollback()
        if self._hold is not None and (self._made or self._unpublished):
            self._store.open.forget(self._owner)
            with contextlib.suppress(OSError):
                self._store.home.abandon(self._hold)
