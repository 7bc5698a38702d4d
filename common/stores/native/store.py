"""`NativeStore`: the contract of a mail store, on the directories that a home has."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from weakref import WeakValueDictionary

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, StoreError
from cyrus_sync.common.master import KnownUser
from cyrus_sync.common.names import Owner, check_mailbox_name, owner_of, root_of
from cyrus_sync.common.stores.mailstore import ChangesKept, StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.changing import Change
from cyrus_sync.common.stores.native.homes import OwnerDirectory, OwnerHome
from cyrus_sync.common.stores.native.loglines import LineWriter, LogLines
from cyrus_sync.common.stores.native.marks import MarkedOwners
from cyrus_sync.common.stores.native.opened import OpenFiles, OpenIndex, OpenOwner
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.summaries import Known, Summaries
from cyrus_sync.common.stores.native.together import Together
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.unlogged import Line, Unlogged
from cyrus_sync.common.stores.native.verbs.rename import Move, rename_across, rename_within
from cyrus_sync.common.stores.native.writer import Writer
from cyrus_sync.common.stores.trouble import reporting

_LOOKS = 3
"""So often a reader looks for an owner whose directory becomes another one meanwhile."""

RightNow = Callable[[Sequence[Line]], None]


class _Mutex:
    """A lock between the threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class NativeStore:
    """A store of indexes and packs (`common.stores.mailstore.MailStore`)."""

    def __init__(
        self,
        home: OwnerHome,
        *,
        action_log: LineWriter | None = None,
        chain_log: LineWriter | None = None,
        right_now: RightNow | None = None,
        servername: str = "localhost",
        refuses_changes: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`action_log` gets the lines of local changes, `chain_log` those of replicated ones. `right_now`
        is called with all lines of a change, and whether each was replicated, when the lock is free.
        `refuses_changes` says why only replication may change the store, "" where everybody may."""
        self.refuses_changes = refuses_changes
        self.home = home
        self.servername = servername
        self.unlogged = Unlogged(home.notes / "unlogged")
        self.marks = MarkedOwners(home.notes / "damaged")
        self.summaries = Summaries(home)
        self.open = OpenFiles(home, self.marks, self.summaries.retire)
        self.lines = LogLines(self.unlogged, action_log, chain_log)
        self._right_now = right_now
        self._clock = clock
        self._lock = threading.Lock()
        self._mutexes: WeakValueDictionary[Owner, _Mutex] = WeakValueDictionary()

    # -- the contract

    def owners(self) -> Iterator[Owner]:
        for known in self.living():
            yield known.owner

    def living(self) -> Iterator[Known]:
        """Everybody of whom anything is alive, or of whom that cannot be told."""
        for known in self.summaries.everybody():
            if known.summary.alive if known.summary is not None else self._may_exist(known.owner):
                yield known

    def _may_exist(self, owner: Owner) -> bool:
        try:
            return self.exists(owner)
        except CyrusSyncError:
            return True  # Reading the owner says why it cannot be done.

    def userids(self) -> list[str]:
        return self.home.userids()

    def known_users(self) -> Mapping[str, KnownUser]:
        return {
            known.owner.name: KnownUser(known.summary.inbox, known.summary.digest)
            for known in self.summaries.everybody()
            if known.owner.kind == "user" and known.summary is not None
        }

    def digests(self, after: str = "", most: int = 2**62) -> list[tuple[str, bytes]]:
        wanted = islice((name for name in self.userids() if name > after), most)
        return [
            (known.owner.name, known.summary.digest if known.summary is not None else b"")
            for known in self.summaries.of([Owner("user", name) for name in wanted])
        ]

    def damaged_owners(self) -> list[Owner]:
        return self.marks.owners()

    def exists(self, owner: Owner) -> bool:
        if self.find(owner) is None:
            return False
        with self.read(owner) as reader:
            return not reader.is_empty()

    @contextmanager
    def read(self, owner: Owner) -> Iterator[Reader]:
        with reporting(owner):
            found = self._snapshot(owner)
            if found is None:
                with contextlib.closing(schema.memory_index()) as nothing:
                    yield Reader(owner, nothing, None)
                return
            opened, index = found
            try:
                yield Reader(owner, index.connection, lambda: index.bodies)
            finally:
                self._end_reading(opened, index)

    def _snapshot(self, owner: Owner) -> tuple[OpenOwner, OpenIndex] | None:
        """A connection in a transaction, for `_end_reading`; None for an owner that is not stored."""
        left = _LOOKS
        while True:
            directory = self._find(owner)
            if directory is None:
                return None
            opened = self.open.take(directory)
            index = None
            try:
                index = opened.take()
                with self.home.reading(directory):
                    index.connection.execute("BEGIN")
                    index.connection.execute("SELECT 1 FROM owner").fetchone()
                return opened, index
            except BaseException as error:
                self._end_reading(opened, index)
                left -= 1
                if not left or not (isinstance(error, StaleOwner) or self._has_moved(directory, error)):
                    raise

    def _has_moved(self, directory: OwnerDirectory, error: BaseException) -> bool:
        """Whether a directory cannot be read since its owner has gone to another partition meanwhile."""
        if not isinstance(error, (sqlite3.Error, OSError, StoreError)):
            return False
        return self.home.find(directory.owner, directory) != directory

    def _end_reading(self, opened: OpenOwner, index: OpenIndex | None) -> None:
        try:
            if index is not None:
                _end_snapshot(opened, index)
        finally:
            self.open.give_back(opened)

    @contextmanager
    def write(self, owner: Owner, *, create: bool = True, timeout: float = 5.0) -> Iterator[Writer]:
        with self.transaction(owner, create=create, timeout=timeout) as transaction:
            yield Writer(transaction)

    @contextmanager
    def transaction(
        self, owner: Owner, *, create: bool = True, timeout: float = 5.0
    ) -> Iterator[Transaction]:
        """What `write` does, for those who work below the verbs."""
        with reporting(owner):
            if self.home.readonly:
                raise StoreError("the mail store was opened for reading only")
            deadline = time.monotonic() + timeout
            mutex = self._mutex(owner)
            if not mutex.lock.acquire(timeout=max(timeout, 0.001)):
                raise MailboxLocked()
            written: list[Line] = []
            try:
                try:
                    with contextlib.ExitStack() as stack:
                        yield from self._write_locked(owner, create, deadline, stack, written)
                finally:
                    mutex.lock.release()
            finally:
                if written:
                    self._tell(written)

    def _write_locked(
        self,
        owner: Owner,
        create: bool,
        deadline: float,
        stack: contextlib.ExitStack,
        written: list[Line],
    ) -> Iterator[Transaction]:
        """The transaction; what it committed for the action log comes into `written`."""
        change = Change(self, owner, stack)
        transaction = change.begin(max(deadline - time.monotonic(), 0))
        if not create:
            transaction.forbid_founding()
        try:
            try:
                yield transaction
            except ChangesKept:
                written += change.commit(transaction)
                raise
            written += change.commit(transaction)
        except ChangesKept:
            raise
        except BaseException:
            change.undo(transaction)
            raise

    def together(self) -> Together:
        return Together(self, lambda owner: self._mutex(owner).lock, self._tell)

    def _tell(self, lines: Sequence[Line]) -> None:
        if self._right_now:
            self._right_now(lines)

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        return next(self.holders(uniqueid), None)

    def holders(self, uniqueid: str) -> Iterator[Owner]:
        """Owners that hold the mailbox: one, but for a rename between two that was interrupted. Of whom
        nothing can be read must be believed to hold what the registry says."""
        for owner in self.home.registry.holders(uniqueid):
            try:
                with self.read(owner) as reader:
                    held = bool(reader.mailbox_id(uniqueid))
            except StoreError:
                held = True
            if held:
                yield owner

    def rename(
        self,
        old: str,
        new: str,
        *,
        partition: str = "",
        uidvalidity: int = 0,
        log: bool,
        timeout: float = 5.0,
        without_inbox: bool = False,
    ) -> None:
        check_mailbox_name(old)
        check_mailbox_name(new)
        partition = self.home.check_partition(partition) if partition else ""
        move = Move(old, new, partition, uidvalidity, log, without_inbox)
        source, target = owner_of(old), owner_of(new)
        if source == target:
            if partition and self.home.partitions_are_places and old == root_of(source):
                from cyrus_sync.common.stores.native.moving import move_files

                move_files(self, source, partition, timeout)
            with self.transaction(source, create=False, timeout=timeout) as transaction:
                rename_within(transaction, move)
            return
        with (
            self.transaction(source, timeout=timeout) as leaving,
            self.transaction(target, timeout=timeout) as arriving,
        ):
            rename_across(leaving, arriving, move)
        # The inner context, the target's, has been committed before the outer one.

    def close(self) -> None:
        self.open.close()
        self.summaries.flush()
        self.unlogged.close()
        self.home.close()

    # -- what the modules of the store use

    def now(self) -> int:
        return int(self._clock())

    @property
    def keeps_lines(self) -> bool:
        """Whether anything is ever written to an action log."""
        return bool(self.lines.kinds)

    def find(self, owner: Owner) -> OwnerDirectory | None:
        """Where an owner's files are now; None for one who is not stored. Raises `StoreError` where that
        cannot be told."""
        with reporting(owner):
            return self._find(owner)

    def directory_of(self, owner: Owner) -> Path | None:
        """As `find`, the path alone."""
        found = self.find(owner)
        return found.path if found else None

    def remove(self, owner: Owner) -> None:
        """Let an owner go of which nothing is left. The caller holds it. Raises OSError."""
        directory = self.find(owner)
        self.open.forget(owner)
        if directory is not None:
            self.home.remove(directory)

    def _find(self, owner: Owner) -> OwnerDirectory | None:
        known = self.open.known(owner)
        directory = self.home.find(owner, known)
        if directory is None:
            if known is not None:
                self.open.forget(owner)
            if self.home.check_unknown(owner):
                directory = self.home.find(owner)
        return directory

    def _mutex(self, owner: Owner) -> _Mutex:
        with self._lock:
            mutex = self._mutexes.get(owner)
            if mutex is None:
                mutex = self._mutexes[owner] = _Mutex()
            return mutex


def _end_snapshot(opened: OpenOwner, index: OpenIndex) -> None:
    try:
        if index.connection.in_transaction:
            index.connection.execute("ROLLBACK")
    except sqlite3.Error:
        opened.give_back(index, reusable=False)
        raise
    opened.give_back(index)
