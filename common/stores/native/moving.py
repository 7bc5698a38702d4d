"""An owner's files copied to another partition while he is in use.

Packs are only appended to, so they are copied first, with nobody kept waiting, and once more what has come
meanwhile. Between two partitions of one disk a pack needs no copy: it gets a second name there, and what is
appended to it is in both places. The owner is held for the last of it: what is new in the packs, and the
index. Then the copy takes the place of the original (`moves`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from cyrus_sync.common.errors import MailboxNonexistent, StoreError
from cyrus_sync.common.files import TEMPORARY, begin_writing_back, make_private, named, private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Moved
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import OwnerDirectory, OwnerHome
from cyrus_sync.common.stores.native.layout import INDEX, LOCK, pack_name
from cyrus_sync.common.stores.native.moves import check_room
from cyrus_sync.common.stores.native.opened import OpenFiles
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.trouble import reporting

Told = Callable[[int], object]
"""Called with octets that were copied just now; it may wait."""

_PIECE = 1024 * 1024
_LITTLE = 4 * _PIECE
"""So much is copied while the owner is held."""
link = os.link
"""Gives a file a second name, on the same disk."""

_ROUNDS = 8
"""So often what has come meanwhile is copied before, however much that is."""


class Store(Protocol):
    """What is needed of the store."""

    home: OwnerHome
    open: OpenFiles

    def find(self, owner: Owner) -> OwnerDirectory | None: ...

    def read(self, owner: Owner) -> AbstractContextManager[Reader]: ...

    def transaction(
        self, owner: Owner, *, create: bool = True, timeout: float = 5.0
    ) -> AbstractContextManager[Transaction]: ...


def check_places(home: OwnerHome) -> None:
    """Raises `StoreError` where a partition is but a name."""
    if not home.partitions_are_places:
        raise StoreError("a partition is but a name in this store (store: fleet): nobody has files on one")


def move_files(
    store: Store,
    owner: Owner,
    partition: str,
    timeout: float,
    told: Told = lambda octets: None,
    *,
    to_new: bool = True,
) -> Moved | None:
    """Bring all that is stored of an owner to another partition; None if it is there already. What
    replication is told stays as it is. `to_new`: as in `begin_move`. Raises `PartitionUnknown`, `StoreError`;
    `MailboxNonexistent` for an owner that is not stored; `MailboxLocked` where the owner is not had within
    `timeout` seconds, or is being moved."""
    check_places(store.home)
    partition = store.home.check_partition(partition)
    with reporting(owner):
        directory = store.find(owner)
        if directory is None:
            raise MailboxNonexistent().at(user=str(owner))
        if store.home.partition_of(directory) == partition:
            return None
        lengths, packs = _extent(store, owner, directory.path)
        index = (directory.path / INDEX).stat().st_size
        begun = store.home.begin_move(owner, partition, index, packs, to_new=to_new)
        with contextlib.closing(begun) as arrival:
            copy = _Copy(directory.path, arrival.path, told)
            for _ in range(_ROUNDS):
                if copy.catch_up(lengths) < _LITTLE:
                    break
                lengths, _ = _extent(store, owner, directory.path)
            late: list[int] = []
            copy.told = late.append  # nobody is slowed down by it now
            with store.transaction(owner, create=False, timeout=timeout) as transaction:
                if store.find(owner) != directory:
                    raise StoreError("has become another while it was copied: move it again")
                copy.catch_up(_lengths(transaction.db))
                copy.rest()
                with contextlib.closing(store.home.open_index(directory, held=True)) as opened:
                    copy.index(opened)  # SQLite copies no connection that is about to write
                arrival.settle(directory.path)
                store.open.forget(owner)
        told(sum(late))
    return Moved(copy.copied, copy.linked)


def _extent(store: Store, owner: Owner, path: Path) -> tuple[dict[int, int], int]:
    """The lengths of the packs, and how many octets of them are here. Packs may be elsewhere."""
    with store.read(owner) as reader:
        lengths = _lengths(reader.connection)
    octets = 0
    for number in lengths:
        with contextlib.suppress(FileNotFoundError):
            octets += (path / pack_name(number)).stat().st_size
    return lengths, octets


def _lengths(connection: sqlite3.Connection) -> dict[int, int]:
    return dict(connection.execute("SELECT pack, length FROM packs WHERE length > 0 ORDER BY pack"))


class _Copy:
    """A copy of a directory in the making."""

    def __init__(self, source: Path, target: Path, told: Told) -> None:
        self.told = told
        self.copied = 0
        self._source = source
        self._target = target
        self._done: dict[int, int] = {}
        self._linked: dict[int, int] = {}
        self._one_disk = True
        self._has_room = False

    @property
    def linked(self) -> int:
        """Octets of the packs that needed no copy."""
        return sum(self._linked.values())

    def catch_up(self, lengths: Mapping[int, int]) -> int:
        """Copy what the packs have now, and forget those that are gone; how many octets that was."""
        for number in {*self._linked, *self._done}.difference(lengths):
            (self._target / pack_name(number)).unlink(missing_ok=True)
            self._done.pop(number, None)
            self._linked.pop(number, None)
        copied = 0
        for number, length in lengths.items():
            if self._link(number):
                self._linked[number] = length
                continue
            begin = self._done.get(number, 0)
            if begin < length:
                self._check_room(lengths)
                self._done[number] = begin + self._append(pack_name(number), begin, length)
                copied += self._done[number] - begin
        return copied

    def _link(self, number: int) -> bool:
        """Whether a pack is the same file in both places. One that went into an object store and came back
        meanwhile is another file than before."""
        source, target = self._source / pack_name(number), self._target / pack_name(number)
        if number in self._linked:
            try:
                if source.samefile(target):
                    return True
            except FileNotFoundError:  # it is elsewhere now; here is all of it
                return True
            target.unlink()
            del self._linked[number]
        if number in self._done or not self._one_disk:
            return False
        try:
            link(source, target)
        except FileNotFoundError:  # a pack that was lost, or is elsewhere
            return False
        except OSError:  # another disk, or one that knows no second names
            self._one_disk = False
            return False
        return True

    def _check_room(self, lengths: Mapping[int, int]) -> None:
        """Once, before the first octet is copied. Of two places of one disk it was not known until now that
        packs cannot have second names there (two mounts of it, say). `StoreError`."""
        if self._has_room or self._one_disk:
            return
        self._has_room = True
        octets = (self._source / INDEX).stat().st_size
        for number in set(lengths).difference(self._linked):
            with contextlib.suppress(FileNotFoundError):
                octets += (self._source / pack_name(number)).stat().st_size
        check_room(self._target, octets)

    def _append(self, name: str, begin: int, end: int) -> int:
        """Copy octets of a file, as far as it has them; how many. A pack that was lost is lost there, too."""
        path = self._target / name
        with contextlib.ExitStack() as stack:
            try:
                source = stack.enter_context((self._source / name).open("rb", buffering=0))
            except FileNotFoundError:
                return 0
            target = stack.enter_context(open(path, "ab", buffering=0, opener=private))
            stack.enter_context(named(path))
            position = begin
            while position < end:
                piece = os.pread(source.fileno(), min(_PIECE, end - position), position)
                if not piece:
                    break
                view = memoryview(piece)
                while view:
                    view = view[target.write(view) :]
                begin_writing_back(target.fileno(), position, len(piece))
                position += len(piece)
                self.copied += len(piece)
                self.told(len(piece))
            os.fsync(target.fileno())
            about = os.fstat(source.fileno())
            os.utime(target.fileno(), ns=(about.st_atime_ns, about.st_mtime_ns))
        return position - begin

    def rest(self) -> None:
        """Copy what else there is: indexes that were put by, and what stands for packs that are elsewhere;
        not what somebody is about to write there, who does not hold the owner for it."""
        for path in sorted(self._source.iterdir()):
            ours = path.name in (LOCK, INDEX, f"{INDEX}-wal", f"{INDEX}-shm") or path.suffix == ".zst"
            unfinished = path.name.startswith(TEMPORARY) or path.suffix == ".new"
            if not ours and not unfinished and path.is_file():
                self._append(path.name, 0, path.stat().st_size)

    def index(self, connection: sqlite3.Connection) -> None:
        """Copy the index as `connection` sees it."""
        path = self._target / INDEX
        make_private(path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # it is synced as a file
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        schema.seal(self._target)
        self.copied += path.stat().st_size
        self.told(path.stat().st_size)
