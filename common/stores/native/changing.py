"""`Change`: one owner held for a change, from the lock to the line in the action log.

Order of the end: the registry learns what comes, the commit is made and published, the registry forgets what
goes, the action log is written. An owner that is not stored is made with the first change, where nobody
looks: the commit is made, he is brought to disk, the registry learns of him, he is shown, the action log is
written. Several such changes may share the end (`bring_in`). If one is undone, the owner goes again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Protocol

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.bodies import BodyReader, lookup
from cyrus_sync.common.stores.native.homes import Grown, Hold, OwnerHome
from cyrus_sync.common.stores.native.loglines import LogLines
from cyrus_sync.common.stores.native.marks import MarkedOwners
from cyrus_sync.common.stores.native.opened import OpenFiles
from cyrus_sync.common.stores.native.packs import PackReader
from cyrus_sync.common.stores.native.summaries import Summaries, is_small
from cyrus_sync.common.stores.native.summary import Summary, summarise
from cyrus_sync.common.stores.native.transaction import Ground, Transaction, leave_lines
from cyrus_sync.common.stores.native.unlogged import Line


class Surrounding(Protocol):
    """The store around a change."""

    home: OwnerHome
    open: OpenFiles
    lines: LogLines
    marks: MarkedOwners
    summaries: Summaries
    servername: str

    def refuses_changes(self) -> str:
        """Why only replication may change the store now; "" where everybody may."""

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
        self.refuses_changes = store.refuses_changes
        self.check_partition = store.home.check_partition
        self._store = store
        self._owner = owner
        self._stack = stack
        self._hold: Hold | None = None
        self._ground: Ground | None = None
        self._made = self._unpublished = False
        self.hints: list[tuple[str, Owner | None]] = []
        """What the registry is to learn of an owner who is made."""
        self.summary: Summary | None = None
        self._changes = 0

    def begin(self, timeout: float) -> Transaction:
        """A transaction on the owner, held; for one who is not stored, on an empty index. `MailboxLocked`
        after `timeout` seconds."""
        store, owner = self._store, self._owner
        self._hold = store.home.hold(owner, timeout, store.open.known(owner))
        if self._hold is not None:
            return Transaction(owner, self, self._stand_on(self._hold), None)
        store.open.forget(owner)
        if store.home.check_unknown(owner):
            return self.begin(timeout)
        memory = schema.memory_index()
        self._stack.callback(memory.close)
        return Transaction(owner, self, None, memory)

    def found(self, owner: Owner, partition: str, *, large: bool) -> Ground:
        home = self._store.home
        self._hold = hold = home.make(owner, partition, large=large)
        self._made = True
        self._stack.callback(hold.close)
        connection = home.blank(hold)
        self._stack.callback(connection.close)
        reader = PackReader(home.packs(hold.directory))
        self._stack.callback(reader.close)
        packs = home.pack_writer(hold.directory, {}, new=True)
        self._stack.callback(packs.close)
        bodies = BodyReader(
            connection, reader, lambda guids: lookup(connection, guids), self._store.marks.of(owner)
        )
        self._ground = Ground(connection, packs, bodies)
        return self._ground

    @property
    def makes(self) -> bool:
        """Whether the owner comes into being with this change."""
        return self._made

    @property
    def made(self) -> tuple[Hold, Grown]:
        """The owner that is made, and what is in its packs."""
        assert self._hold is not None
        assert self._ground is not None
        return self._hold, self._ground.packs.grown

    def _stand_on(self, hold: Hold) -> Ground:
        """What a transaction works on; a connection that is left in a transaction is closed afterwards."""
        files = self._store.open
        try:
            opened = files.take(hold.directory)
        except BaseException:
            hold.close()
            raise
        opened.written = True
        self._stack.callback(files.give_back, opened)
        self._stack.callback(hold.close)
        index = opened.take(held=True)
        self._stack.callback(lambda: opened.give_back(index, reusable=not index.connection.in_transaction))
        self._ground = opened.ground(index)
        self._stack.callback(self._ground.packs.close)
        self._changes = index.connection.total_changes
        return self._ground

    def other_holder(self, uniqueid: str) -> Owner | None:
        return next((owner for owner in self._store.holders(uniqueid) if owner != self._owner), None)

    def commit(self, transaction: Transaction) -> list[Line]:
        """Make what was done last. The lines of the action log that it has written, or left to be written."""
        if self._hold is None:
            return []
        if self._made:
            return bring_in(self._store, [(self, transaction)])[0]
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

    def build(self, transaction: Transaction) -> list[Line]:
        """Commit the change that makes the owner, where nobody looks. Its lines."""
        assert self._ground is not None
        self.hints = [hint for hint in dict(transaction.hints).items() if hint[1] is not None]
        written = transaction.commit(keep_lines=())
        if is_small(self._ground.connection):
            self.summary = summarise(self._owner, self._ground.connection)
        self._ground.connection.close()
        return written

    def undo(self, transaction: Transaction) -> None:
        """Roll back; an owner that the transaction brought into being goes again, and so does a commit that
        could not be published."""
        with contextlib.suppress(sqlite3.Error, OSError):
            transaction.rollback()
        if self._hold is not None and (self._made or self._unpublished):
            self._store.open.forget(self._owner)
            with contextlib.suppress(OSError):
                self._store.home.abandon(self._hold)


def bring_in(store: Surrounding, changes: Sequence[tuple[Change, Transaction]]) -> list[list[Line]]:
    """The end of changes that make their owners. They share what syncing costs; if it fails for one, all are
    to be undone. The lines of each for the action log, written or left to be written."""
    lines = [(transaction.owner, change.build(transaction)) for change, transaction in changes]
    hints = [hint for change, _ in changes for hint in change.hints]

    def note() -> None:
        store.lines.announce_new(lines)
        store.home.registry.note(hints, lines[0][0])

    store.home.bring_in([change.made for change, _ in changes], note)
    for change, transaction in changes:
        directory = store.home.find(transaction.owner)
        if change.summary is not None and directory is not None:
            store.summaries.note(transaction.owner, directory, change.summary)
    if not store.lines.write_new(lines):
        for owner, own in lines:
            _leave(store, owner, own)
    return [own for _, own in lines]


def _leave(store: Surrounding, owner: Owner, lines: Sequence[Line]) -> None:
    """The lines of an owner who is held, and whom all see by now, are left to his next writer."""
    with contextlib.suppress(CyrusSyncError, OSError, sqlite3.Error):
        directory = store.home.find(owner)
        if directory is not None:
            with contextlib.closing(store.home.open_index(directory, held=True)) as connection:
                leave_lines(connection, [line for line in lines if line[0] in store.lines.kinds])
