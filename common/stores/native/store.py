"""`NativeStore`: finds owners, opens and locks them, commits what writers did."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories, sync_directory
from cyrus_sync.common.names import SERVER, Owner, check_mailbox_name, owner_of
from cyrus_sync.common.stores.mailstore import ChangesKept
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.layout import (
    INDEX,
    KINDS,
    LOCK,
    Layout,
    decode_name,
    encode_name,
    remains,
)
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.marks import MarkedOwners
from cyrus_sync.common.stores.native.opened import OpenFiles, OpenOwner, Session
from cyrus_sync.common.stores.native.partitions import PartitionAway, Partitions
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.registry import Registry
from cyrus_sync.common.stores.native.transaction import Ground, LogLineTuple, Transaction
from cyrus_sync.common.stores.native.unlogged import Unlogged
from cyrus_sync.common.stores.native.verbs.rename import Move, rename_across, rename_within
from cyrus_sync.common.stores.native.writer import Writer
from cyrus_sync.common.stores.trouble import reporting

log = logging.getLogger(__name__)


class LineWriter(Protocol):
    """The action log, as far as a store needs it. False if nothing is ever written."""

    def write(self, lines: Iterable[Sequence[str]]) -> None: ...

    def __bool__(self) -> bool: ...


RightNow = Callable[[Sequence[tuple[bool, LogLineTuple]]], None]


class _Mutex:
    """A lock between the threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class NativeStore:
    """A store in the directories of a `Layout` (`common.stores.mailstore.MailStore`)."""

    def __init__(
        self,
        layout: Layout,
        *,
        readonly: bool = False,
        action_log: LineWriter | None = None,
        chain_log: LineWriter | None = None,
        right_now: RightNow | None = None,
        servername: str = "localhost",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`action_log` gets the lines of local changes, `chain_log` those of replicated ones. `right_now`
        is called with all lines of a change, and whether each was replicated, when the lock is free."""
        self.layout = layout
        self.readonly = readonly
        self.servername = servername
        self.registry = Registry(layout.home / "registry.sqlite", self._scan_holders, readonly=readonly)
        self.partitions = Partitions(
            layout, readonly=readonly, is_anybody_known=self.registry.is_anybody_known
        )
        self.unlogged = Unlogged(layout.home / "unlogged")
        self._logs = {False: action_log, True: chain_log}
        self._right_now = right_now
        self._clock = clock
        self._open = OpenFiles()
        self.marks = MarkedOwners(layout.home / "damaged")
        self._lock = threading.Lock()
        self._mutexes: WeakValueDictionary[Owner, _Mutex] = WeakValueDictionary()

    # -- the contract

    def owners(self) -> Iterator[Owner]:
        for owner in self.everybody():
            try:
                there = self.exists(owner)
            except CyrusSyncError:
                there = True  # Who reads him is told why it cannot be done.
            if there:
                yield owner

    def userids(self) -> list[str]:
        found = {self.owner_at("user", path) for path in self.layout.directories("user")}
        return sorted(owner.name for owner in found if owner is not None)

    def damaged_owners(self) -> list[Owner]:
        return self.marks.owners()

    def exists(self, owner: Owner) -> bool:
        with reporting(owner):
            if self._opened(owner) is None:
                return False
        with self.read(owner) as reader:
            return not reader.is_empty()

    @contextmanager
    def read(self, owner: Owner) -> Iterator[Reader]:
        with reporting(owner):
            opened = self._hold(owner)
            if opened is None:
                with contextlib.closing(schema.memory_index()) as nothing:
                    yield Reader(owner, nothing, None)
                return
            try:
                session = opened.take()
                try:
                    session.connection.execute("BEGIN")
                    session.connection.execute("SELECT 1 FROM owner").fetchone()
                    yield Reader(owner, session.connection, lambda: session.bodies)
                finally:
                    self._end_reading(opened, session)
            finally:
                self._drop_hold(opened)

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
            if self.readonly:
                raise StoreError("the mail store was opened for reading only")
            deadline = time.monotonic() + timeout
            mutex = self._mutex(owner)
            if not mutex.lock.acquire(timeout=max(timeout, 0.001)):
                raise MailboxLocked()
            written: list[tuple[bool, LogLineTuple]] = []
            try:
                try:
                    with contextlib.ExitStack() as stack:
                        yield from self._write_locked(owner, create, deadline, stack, written)
                finally:
                    mutex.lock.release()
            finally:
                if written and self._right_now:
                    self._right_now(written)

    def _write_locked(
        self,
        owner: Owner,
        create: bool,
        deadline: float,
        stack: contextlib.ExitStack,
        written: list[tuple[bool, LogLineTuple]],
    ) -> Iterator[Transaction]:
        """The transaction; what it committed for the action log comes into `written`."""
        found = self._lock_owner(owner, deadline, stack)
        around = _Around(self, owner, stack)
        if found is None:
            memory = schema.memory_index()
            stack.callback(memory.close)
            transaction = Transaction(owner, around, None, memory)
        else:
            transaction = Transaction(owner, around, self.ground(found, stack), None)
        if not create:
            transaction.forbid_founding()
        try:
            try:
                yield transaction
            except ChangesKept:
                written += self._commit(transaction)
                raise
            written += self._commit(transaction)
        except ChangesKept:
            raise
        except BaseException:
            around.undo(transaction)
            raise

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        return next(self.holders(uniqueid), None)

    def holders(self, uniqueid: str) -> Iterator[Owner]:
        """Owners that hold the mailbox: one, but for a rename between two that was interrupted. Of whom
        nothing can be read must be believed to hold what the registry says."""
        for owner in self.registry.holders(uniqueid):
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
        partition = self.layout.check_partition(partition) if partition else ""
        move = Move(old, new, partition, uidvalidity, log, without_inbox)
        source, target = owner_of(old), owner_of(new)
        if source == target:
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
        with self._lock:
            opened = self._open.pop_all()
        for one in opened:
            one.close()
        self.unlogged.close()
        self.registry.close()

    # -- what the modules of the store use

    def now(self) -> int:
        return int(self._clock())

    @property
    def keeps_lines(self) -> bool:
        """Whether anything is ever written to an action log."""
        return any(self._logs.values())

    def everybody(self) -> list[Owner]:
        """Users in order of userid, then shared top-level mailboxes: everybody of whom anything is on disk
        (if only a deleted mailbox, a pack or something damaged), or whom the registry names. Never fails
        for one of them."""
        found: set[Owner] = set()
        try:
            found.update(self.registry.owners())
        except (CyrusSyncError, sqlite3.Error) as error:
            log.error("the registry of mailboxes cannot be read: %s", error)
        hashed = {
            encode_name(owner.name): owner for owner in found if decode_name(encode_name(owner.name)) is None
        }
        for kind in KINDS:
            for path in self.layout.directories(kind):
                owner = self.owner_at(kind, path) or hashed.get(path.name)
                if owner is not None and path in self.layout.places(owner) and _is_somebodys(path):
                    found.add(owner)
        return [owner for kind in KINDS for owner in sorted(found) if owner.kind == kind]

    def owner_at(self, kind: str, path: Path) -> Owner | None:
        """Who lives in a directory; None where that cannot be known."""
        name = decode_name(path.name)
        if name is None:
            with (
                contextlib.suppress(CyrusSyncError, sqlite3.Error),
                contextlib.closing(schema.connect(path / INDEX, readonly=True)) as connection,
            ):
                row = connection.execute("SELECT name FROM owner").fetchone()
                name = row[0] if row else None
        return Owner(kind, name) if name else None

    def directory_of(self, owner: Owner) -> Path | None:
        """Where an owner's files are. Raises `StoreError` where that cannot be told."""
        with reporting(owner):
            opened = self._opened(owner)
            return opened.directory if opened else None

    def forget(self, owner: Owner) -> None:
        """Close an owner's files; its directory is about to change or go."""
        with self._lock:
            opened = self._open.pop(owner)
        if opened:
            opened.close()

    # -- finding and opening

    def _opened(self, owner: Owner) -> OpenOwner | None:
        """The owner's open files; None for one who is not stored. `StoreError` for one who should be."""
        with self._lock:
            opened = self._find(owner)
        if opened is None:
            self._check_unknown(owner)
        return opened

    def _hold(self, owner: Owner) -> OpenOwner | None:
        """As `_opened`, and not to be closed before `_drop_hold`."""
        with self._lock:
            opened = self._find(owner)
            if opened:
                opened.in_use += 1
        if opened is None:
            self._check_unknown(owner)
        return opened

    def _check_unknown(self, owner: Owner) -> None:
        """Raise unless one who had no index may be taken for somebody who was never here. Whoever looks while
        somebody else makes him sees what was a moment ago."""
        if owner == SERVER:
            return
        for path in self.layout.places(owner):
            if (left := remains(path)) and self.layout.find(owner) is None:
                raise StoreCorrupt(f"index lost: {left}; mailstore reconstruct makes one from what is there")
        known = self.registry.held_by(owner)
        away = self.partitions.away()
        if (not known and not away) or self.layout.find(owner) is not None:
            return
        there = f"{len(known)} mailboxes are registered and no directory is there" if known else "not found"
        if away:
            raise PartitionAway(f"{there}: {'; '.join(away.values())}")
        raise StoreCorrupt(
            f"lost: {there}; put it back from a backup, or, if that is well, let sync_reset -f forget"
        )

    def _scan_holders(self) -> Iterator[tuple[str, Owner]]:
        """Who holds which mailbox, as the indexes say that can be read."""
        for kind in KINDS:
            for path in self.layout.directories(kind):
                owner = self.owner_at(kind, path)
                if owner is None or not (path / INDEX).exists():
                    continue
                with contextlib.suppress(CyrusSyncError), self.read(owner) as reader:
                    for state in reader.mailboxes():
                        yield state.uniqueid, owner

    def _drop_hold(self, opened: OpenOwner) -> None:
        with self._lock:
            opened.in_use -= 1

    def _find(self, owner: Owner) -> OpenOwner | None:
        opened = self._open.get(owner)
        if opened is not None:
            return opened
        directory = self.layout.find(owner) if owner != SERVER else self._server_directory()
        if directory is None:
            return None
        opened = OpenOwner(owner, directory, self.marks.of(owner), readonly=self.readonly)
        self._open.add(opened)
        return opened

    def _server_directory(self) -> Path | None:
        path = self.layout.directory(SERVER, "")
        return path if (path / INDEX).exists() else None

    def _end_reading(self, opened: OpenOwner, session: Session) -> None:
        try:
            if session.connection.in_transaction:
                session.connection.execute("ROLLBACK")
        except sqlite3.Error:
            opened.give_back(session, reusable=False)
            raise
        opened.give_back(session)

    # -- locking and committing

    def _mutex(self, owner: Owner) -> _Mutex:
        with self._lock:
            mutex = self._mutexes.get(owner)
            if mutex is None:
                mutex = self._mutexes[owner] = _Mutex()
            return mutex

    def _lock_owner(self, owner: Owner, deadline: float, stack: contextlib.ExitStack) -> OpenOwner | None:
        """The owner's lock, held until `stack` ends; None for an owner that is not stored."""
        while True:
            opened = self._hold(owner)
            if opened is None:
                return None
            self.partitions.adopt()
            try:
                lock = FileLock(opened.directory / LOCK, max(deadline - time.monotonic(), 0))
            except (Gone, FileNotFoundError):
                self._drop_hold(opened)
                self.forget(owner)
                continue
            except BaseException:
                self._drop_hold(opened)
                raise
            stack.callback(self._drop_hold, opened)
            stack.callback(lock.release)
            return opened

    def ground(self, opened: OpenOwner, stack: contextlib.ExitStack, *, new: bool = False) -> Ground:
        """What a writer works on; given back when `stack` ends (closed, if a transaction is open then)."""
        session = opened.take()

        def give_back() -> None:
            opened.give_back(session, reusable=not session.connection.in_transaction)

        stack.callback(give_back)
        ground = opened.ground(session, new=new)
        stack.callback(ground.packs.close)
        return ground

    def found_owner(self, owner: Owner, partition: str, stack: contextlib.ExitStack) -> OpenOwner:
        """Make an owner's directory, and hold its lock until `stack` ends. Its names are synced by the
        first commit. `MailboxLocked` if another process was faster."""
        partition = self.layout.check_partition(partition)
        make_directories(self.layout.home)
        with FileLock(self.layout.home / "create.lock", timeout=10):
            if self._opened(owner) is not None:
                raise MailboxLocked().at(user=str(owner))
            if owner != SERVER:
                self.partitions.check()
                self.partitions.mark(partition)
            directory = self.layout.directory(owner, partition)
            make_directories(directory, 0o700)
            lock = FileLock(directory / LOCK, timeout=0)
            stack.callback(lock.release)
            schema.write_template(directory)
        opened = self._hold(owner)
        assert opened is not None
        stack.callback(self._drop_hold, opened)
        return opened

    def remove_owner(self, owner: Owner, directory: Path) -> None:
        """Remove an owner's directory, which holds nothing; the caller holds its lock."""
        self.forget(owner)
        self.registry.forget(owner)
        gone = directory.with_name(f".removed-{os.getpid()}-{directory.name}"[:255])
        directory.rename(gone)
        sync_directory(gone.parent)
        shutil.rmtree(gone)

    def _commit(self, transaction: Transaction) -> list[tuple[bool, LogLineTuple]]:
        coming = [hint for hint in transaction.hints if hint[1] is not None]
        going = [hint for hint in transaction.hints if hint[1] is None]
        if coming:
            self.registry.note(coming, transaction.owner)
        kinds = {chained for chained, line_writer in self._logs.items() if line_writer}
        keeping = bool(kinds) and transaction.keeps_lines(kinds)
        if keeping:
            self.unlogged.note(transaction.owner)
        lines = transaction.commit(keep_lines=kinds)
        if going:
            self.registry.note(going, transaction.owner)
        if keeping:
            self._write_lines(transaction, lines)
        return lines

    def _write_lines(self, transaction: Transaction, lines: list[tuple[bool, LogLineTuple]]) -> None:
        """What was changed is durable; if the log cannot be written now, the next writer does it."""
        try:
            for chained, line_writer in self._logs.items():
                wanted = [line for kind, line in lines if kind == chained]
                if wanted and line_writer:
                    line_writer.write(wanted)
            transaction.lines_written()
        except (CyrusSyncError, OSError, sqlite3.Error) as error:
            log.warning("action log of %s not written yet: %s", transaction.owner, reason(error))
        else:
            self.unlogged.strike(transaction.owner)


class _Around:
    """What the store is to one transaction (`transaction.Surroundings`)."""

    def __init__(self, store: NativeStore, owner: Owner, stack: contextlib.ExitStack) -> None:
        self._store = store
        self._owner = owner
        self._stack = stack
        self._made: OpenOwner | None = None
        self.servername = store.servername

    def now(self) -> int:
        return self._store.now()

    def check_partition(self, partition: str) -> str:
        return self._store.layout.check_partition(partition)

    def other_holder(self, uniqueid: str) -> Owner | None:
        return next((owner for owner in self._store.holders(uniqueid) if owner != self._owner), None)

    def found(self, owner: Owner, partition: str) -> Ground:
        self._made = self._store.found_owner(owner, partition, self._stack)
        return self._store.ground(self._made, self._stack, new=True)

    def undo(self, transaction: Transaction) -> None:
        """Roll back; an owner that the transaction brought into being goes again."""
        with contextlib.suppress(sqlite3.Error, OSError):
            transaction.rollback()
        if self._made is not None:
            with contextlib.suppress(OSError):
                self._store.remove_owner(self._owner, self._made.directory)


def _is_somebodys(path: Path) -> bool:
    """Whether a directory is an owner's, sound or not."""
    try:
        return (path / INDEX).exists() or bool(remains(path))
    except OSError:
        return True
