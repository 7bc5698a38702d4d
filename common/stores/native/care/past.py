"""The store as it was at a time: an index of before, rolled back by its own history.

What an owner had at a time is a copy of the index from which everything is taken back that was changed after
that second, in a file without a name that goes away by itself. Of an owner in whom nothing was changed since,
it is the index itself. Messages are those that are stored now: `expire` keeps what the history speaks of.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import NotRemembered, StoreCorrupt, StoreError
from cyrus_sync.common.model import Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.bodies import BodyReader
from cyrus_sync.common.stores.native.history import MAILBOX_COLUMNS, RECORD_COLUMNS, Entry, decode, uids_of
from cyrus_sync.common.stores.native.homes import OwnerDirectory
from cyrus_sync.common.stores.native.packs import PackReader
from cyrus_sync.common.stores.native.reader import Reader, Records
from cyrus_sync.common.stores.native.rows import INSERT_ANNOTATION, to_signed
from cyrus_sync.common.stores.native.schema import WITH_HISTORY, stored_version
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.tables.boxes import box_sort
from cyrus_sync.common.stores.native.tables.quotas import assign_in
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.trouble import reporting

_KEPT = 4
"""Copies that are kept for the next reader."""

_CACHE_KIB = 8192
"""Of a copy's pages that are held in memory."""

_MAILBOX = {str(number): name for name, number in MAILBOX_COLUMNS.items()}
_RECORD = {str(number): name for name, number in RECORD_COLUMNS.items()}


# -- an index, rolled back


def begins(connection: sqlite3.Connection) -> int:
    """Since when the history of an index tells all (Unix seconds). Raises `NotRemembered` for an index of an
    older release, which has none."""
    if stored_version(connection) < WITH_HISTORY:
        raise NotRemembered(reason="the history begins with the next change, which upgrades the index")
    row = connection.execute("SELECT known_since FROM owner").fetchone()
    return int(row[0]) if row else 0


def changed_after(connection: sqlite3.Connection, moment: int) -> bool:
    """Whether the index tells of anything that was changed after this second."""
    last = connection.execute("SELECT at FROM history ORDER BY seq DESC LIMIT 1").fetchone()
    return last is not None and last[0] > moment


def roll_back(connection: sqlite3.Connection, moment: int) -> None:
    """Make an index, which is a copy for this alone, what it was at the end of the second `moment`. Raises
    `StoreCorrupt` for a history that cannot be followed."""
    connection.execute("BEGIN")
    # On the way back two mailboxes may have one name for a moment.
    connection.execute("DROP INDEX mailboxes_name")
    connection.execute("DROP INDEX mailboxes_uniqueid")
    undoing = _Undoing(connection)
    rows = connection.execute("SELECT was FROM history WHERE at > ? ORDER BY seq DESC", (moment,))
    try:
        for (was,) in rows:
            for entry in reversed(decode(was)):
                undoing.undo(entry)
        connection.execute("DELETE FROM history WHERE at > ?", (moment,))
        undoing.sum_up()
        for name in ("name", "uniqueid"):
            connection.execute(
                f"CREATE UNIQUE INDEX mailboxes_{name} ON mailboxes ({name}) WHERE deleted_at = 0"
            )
    except (ValueError, TypeError, KeyError, IndexError, zlib.error, sqlite3.Error) as error:
        raise StoreCorrupt(f"the history in the index cannot be followed: {error}") from error
    connection.execute("COMMIT")


class _Undoing:
    """Takes entries back, the last first."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._touched: set[int] = set()
        """Mailboxes whose sums may be others."""

    def undo(self, entry: Entry) -> None:
        kind, *rest = entry
        _HOW[kind](self, *rest)

    def _is_there(self, mailbox: int) -> bool:
        """`expire` has removed mailboxes of which the history still speaks."""
        return self._db.execute("SELECT 1 FROM mailboxes WHERE id = ?", (mailbox,)).fetchone() is not None

    def mailbox(self, mailbox: int, was: dict[str, Any] | list[Any] | None) -> None:
        self._touched.add(mailbox)
        if was is None:
            for table, column in (("mailboxes", "id"), ("records", "mailbox"), ("annotations", "mailbox")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (mailbox,))
        elif isinstance(was, list):
            self._db.execute(f"INSERT INTO mailboxes VALUES ({','.join('?' * len(was))})", was)
        elif was:
            columns = {_MAILBOX[number]: value for number, value in was.items()}
            if "name" in columns:
                columns["sort"] = box_sort(columns["name"])
            changes = ", ".join(f"{name} = ?" for name in columns)
            self._db.execute(f"UPDATE mailboxes SET {changes} WHERE id = ?", (*columns.values(), mailbox))

    def added(self, mailbox: int, uids: str) -> None:
        self._touched.add(mailbox)
        for part in uids.split(","):
            first, _, last = part.partition(":")
            for table in ("records", "annotations"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE mailbox = ? AND uid BETWEEN ? AND ? AND uid > 0",
                    (mailbox, int(first), int(last or first)),
                )

    def replaced(self, mailbox: int, uids: str, was: dict[str, Any]) -> None:
        self._touched.add(mailbox)
        if not was:
            return
        numbers = uids_of(uids)
        columns = [value if isinstance(value, list) else [value] * len(numbers) for value in was.values()]
        changes = ", ".join(f"{_RECORD[number]} = ?" for number in was)
        self._db.executemany(
            f"UPDATE records SET {changes} WHERE mailbox = ? AND uid = ?",
            [
                (*(to_signed(one) if isinstance(one, int) else one for one in row), mailbox, uid)
                for uid, *row in zip(numbers, *columns, strict=True)
            ],
        )

    def forgotten(self, mailbox: int, rows: list[list[Any]]) -> None:
        self._touched.add(mailbox)
        if not self._is_there(mailbox):
            return
        guid = Record._fields.index("guid") + 1
        whole = [[*row[:guid], bytes.fromhex(row[guid]), *row[guid + 1 :]] for row in rows]
        self._db.executemany(f"INSERT INTO records VALUES ({','.join('?' * len(whole[0]))})", whole)

    def annotations(self, mailbox: int, uid: int, notes: list[list[Any]]) -> None:
        self._touched.add(mailbox)
        self._db.execute("DELETE FROM annotations WHERE mailbox = ? AND uid = ?", (mailbox, uid))
        self._db.executemany(
            INSERT_ANNOTATION,
            [
                (mailbox, uid, entry, user, modseq, value.encode("latin-1"))
                for entry, user, modseq, value in notes
            ],
        )
        self._db.execute(
            "UPDATE records SET annotations = ? WHERE mailbox = ? AND uid = ?", (len(notes), mailbox, uid)
        )

    def quota(self, root: str, was: list[Any] | None) -> None:
        self._put("quotas", "root", root, was)

    def seen(self, uniqueid: str, was: list[Any] | None) -> None:
        self._put("seen", "uniqueid", uniqueid, was)

    def subscription(self, name: str, there: bool) -> None:
        self._put("subscriptions", "mailbox", name, [box_sort(name)[1:]] if there else None)

    def _put(self, table: str, column: str, key: str, was: list[Any] | None) -> None:
        self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))
        if was is not None:
            self._db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * (len(was) + 1))})", (key, *was))

    def sum_up(self) -> None:
        """What follows from the rest: CRCs, usage, quota roots."""
        for mailbox in sorted(self._touched):
            row = self._db.execute("SELECT sync_crc_annot FROM mailboxes WHERE id = ?", (mailbox,)).fetchone()
            if row is None:
                continue
            own = self._db.execute(
                "SELECT coalesce(sum(length(value)), 0) FROM annotations WHERE mailbox = ? AND uid = 0",
                (mailbox,),
            ).fetchone()[0]
            tally = Tally.anew(own)
            for records in Records(self._db, mailbox, 0, 0, 2000):
                tally.add(records)
            columns = tally.columns()
            if not row[0]:
                columns["sync_crc_annot"] = 0  # not known then either: what is sent there counts otherwise
            changes = ", ".join(f"{name} = ?" for name in columns)
            self._db.execute(f"UPDATE mailboxes SET {changes} WHERE id = ?", (*columns.values(), mailbox))
        assign_in(self._db)


_HOW: Mapping[str, Callable[..., None]] = {
    "m": _Undoing.mailbox,
    "+": _Undoing.added,
    "r": _Undoing.replaced,
    "-": _Undoing.forgotten,
    "a": _Undoing.annotations,
    "q": _Undoing.quota,
    "s": _Undoing.subscription,
    "e": _Undoing.seen,
}


def copied(connection: sqlite3.Connection, moment: int) -> sqlite3.Connection:
    """A copy of an index, rolled back; it is gone when it is closed. Any number of threads may read it."""
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        copy.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = OFF")
        roll_back(copy, moment)
    except BaseException:
        copy.close()
        raise
    return copy


def turn_back(index: Path, moment: int) -> None:
    """Make a copy of an index, in a file that nobody else has open, what the owner's was at the end of the
    second `moment`, to make the owner from it: what was deleted or had another name only later, has not been.
    Raises `NotRemembered`, and then it is as it was; `StoreCorrupt`."""
    try:
        with contextlib.closing(sqlite3.connect(index, isolation_level=None)) as connection:
            since = begins(connection)
            if since > moment:
                raise NotRemembered(since)
            connection.execute("PRAGMA journal_mode = MEMORY")  # whoever crashes begins with another copy
            if changed_after(connection, moment):
                roll_back(connection, moment)
            connection.execute("DELETE FROM tombstones WHERE deleted_at > ?", (moment,))
            connection.execute("DELETE FROM former_names WHERE renamed_at > ?", (moment,))
    except sqlite3.Error as error:
        raise StoreCorrupt(f"the copy of an index cannot be read: {error}") from error


# -- the store of that time


class _Copy:
    """A rolled back index, and how many read it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.readers = 0


class PastStore:
    """Everybody as of one time (`care.PastStore`). Safe for several threads."""

    def __init__(self, store: NativeStore, moment: int) -> None:
        """`moment` in Unix seconds: all that was done in this second counts."""
        self.moment = moment
        self._store = store
        self._lock = threading.Lock()
        self._copies: OrderedDict[Owner, _Copy] = OrderedDict()

    def owners(self) -> Iterator[Owner]:
        for owner in self._store.home.everybody():
            try:
                there = self.exists(owner)
            except StoreError:
                there = True  # reading him says why it cannot be done
            if there:
                yield owner

    def exists(self, owner: Owner) -> bool:
        with self.read(owner) as reader:
            return not reader.is_empty()

    @contextmanager
    def read(self, owner: Owner) -> Iterator[Reader]:
        with reporting(owner), contextlib.ExitStack() as stack:
            directory = self._store.find(owner)
            copy = self._take(owner)
            if copy is None:
                now = stack.enter_context(self._store.read(owner))
                if directory is None:
                    yield now
                    return
                since = begins(now.connection)
                if since > self.moment:
                    raise NotRemembered(since)
                if not changed_after(now.connection, self.moment):
                    yield now
                    return
                copy = self._put(owner, copied(now.connection, self.moment))
                stack.pop_all().close()
            try:
                if directory is None:
                    directory = self._store.find(owner)
                yield self._reader(owner, copy, directory, stack)
            finally:
                self._give_back(copy)

    def _reader(
        self, owner: Owner, copy: _Copy, directory: OwnerDirectory | None, stack: contextlib.ExitStack
    ) -> Reader:
        if directory is None:
            return Reader(owner, copy.connection, None)
        packs = PackReader(self._store.home.packs(directory))
        stack.callback(packs.close)
        opened = self._store.open.take(directory)
        stack.callback(self._store.open.give_back, opened)

        bodies = BodyReader(copy.connection, packs, opened.places_now, self._store.marks.of(owner))
        return Reader(owner, copy.connection, lambda: bodies)

    # -- copies

    def _take(self, owner: Owner) -> _Copy | None:
        with self._lock:
            copy = self._copies.get(owner)
            if copy is not None:
                copy.readers += 1
                self._copies.move_to_end(owner)
            return copy

    def _put(self, owner: Owner, connection: sqlite3.Connection) -> _Copy:
        """Keep a copy, unless another thread was faster."""
        with self._lock:
            copy = self._copies.get(owner)
            if copy is None:
                copy = self._copies[owner] = _Copy(connection)
            else:
                connection.close()
            copy.readers += 1
            return copy

    def _give_back(self, copy: _Copy) -> None:
        with self._lock:
            copy.readers -= 1
            surplus = len(self._copies) - _KEPT
            for owner, each in list(self._copies.items()):
                if surplus > 0 and not each.readers:
                    del self._copies[owner]
                    each.connection.close()
                    surplus -= 1

    def close(self) -> None:
        """Let go of all copies; nobody reads any more."""
        with self._lock:
            copies, self._copies = list(self._copies.values()), OrderedDict()
        for copy in copies:
            copy.connection.close()
