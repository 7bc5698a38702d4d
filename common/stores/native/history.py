"""What a transaction overwrites is kept for a while: the *history*, from which a past time is read (`past`).

A row of the table ``history`` is what one commit has overwritten: a list of *entries*, in the order of the
changes. Whoever undoes them goes backwards. docs/store-format.md explains each::

    ["m", mailbox, {column: value}]          columns of a mailbox's row were other ones
    ["m", mailbox, [value, …]]               the whole row is gone
    ["m", mailbox, null]                     it was not there
    ["+", mailbox, "uids"]                   these records were not there
    ["r", mailbox, "uids", {column: value}]  columns of these records were other ones: a value for all of
                                             them, or a list with one for each
    ["-", mailbox, [[value, …], …]]          whole records are gone
    ["a", mailbox, uid, [[entry, userid, modseq, value], …]]   the annotations were these
    ["q", root, [limits, modseq]]            a quota root was this, or (null) not there
    ["s", name, there]                       a subscription was there, or not
    ["e", uniqueid, [value, …]]              seen state was this, or (null) not there

Columns go by their numbers in the schema. What follows from other columns (sums, CRCs, order, quota root) is
not kept. Nothing is kept of the transaction that makes an owner: nothing was there before.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS

Entry = list[Any]

MOST_OCTETS = 16 << 20
"""Of an owner's history: where it grows beyond, the oldest goes before `expire` would remove it."""

_LOOK_EVERY = 1000
"""So many rows lie between two looks whether there is too much."""

_FULL = 5000
"""Records that are kept in memory before they are written."""

_PLAIN = 200
"""Octets of a row that is not worth compressing."""

_BELIEVED = 86400
"""Seconds that a clock may be set back. If it was ahead by more, the times of the history mean nothing."""

MAILBOX_COLUMNS: Mapping[str, int] = {
    "uniqueid": 1, "name": 2, "deleted_at": 4, "mbtype": 5, "last_uid": 8, "highestmodseq": 9,
    "recentuid": 10, "recenttime": 11, "last_appenddate": 12, "pop3_last_login": 13, "pop3_show_after": 14,
    "xconvmodseq": 15, "raclmodseq": 16, "usergroups": 17, "uidvalidity": 18, "partition": 19, "acl": 20,
    "options": 21, "createdmodseq": 23, "foldermodseq": 24, "userflags": 26,
}  # fmt: skip
"""Columns of a mailbox whose former values are kept, with their numbers in the schema."""

RECORD_COLUMNS: Mapping[str, int] = {
    "modseq": 2, "last_updated": 3, "flags": 4, "expunged": 5, "internaldate": 6, "thrid": 9, "savedate": 10,
    "createdmodseq": 11,
}  # fmt: skip
"""The same of a record."""

_EXPUNGED = str(RECORD_COLUMNS["expunged"])
_NAME, _DELETED_AT = str(MAILBOX_COLUMNS["name"]), str(MAILBOX_COLUMNS["deleted_at"])
_GUID = Record._fields.index("guid") + 1
"""Of a row of records."""

_ROW = {name.strip(): at for at, name in enumerate(f"{STATE_COLUMNS}, deleted_at".split(","))}
_OF_RECORD = [(Record._fields.index(name), str(number)) for name, number in RECORD_COLUMNS.items()]


_INSERT = (
    "INSERT INTO history (at, was)"
    " VALUES (max(?, coalesce((SELECT at FROM history ORDER BY seq DESC LIMIT 1), 0)), ?)"
)


class Mark(NamedTuple):
    """Where a history stood at a savepoint: the first `length` of `entries` had been noted."""

    entries: list[Entry]
    length: int


class History:
    """What one transaction has overwritten so far. Nothing of it is written before `write`, but for what is
    too much to be kept in memory."""

    def __init__(self, *, kept: bool = True) -> None:
        """`kept` False: of an owner who is being made, nothing is noted."""
        self._kept = kept
        self._entries: list[Entry] = []
        self._records = 0
        self._rows: dict[int, Sequence[Any] | None] = {}
        self._columns: dict[int, int] = {}

    # -- mailboxes

    def found(self, mailbox: int, row: Sequence[Any]) -> None:
        """A mailbox that is alive, with its row (`STATE_COLUMNS`), as it was read."""
        self._rows.setdefault(mailbox, row)

    def made(self, mailbox: int) -> None:
        """The row of a mailbox is new."""
        self._rows[mailbox] = None
        self._columns.pop(mailbox, None)
        self._note(["m", mailbox, None])

    def changes(self, connection: sqlite3.Connection, mailbox: int, columns: Mapping[str, Any]) -> None:
        """Columns of a mailbox are about to get these values."""
        if not self._kept:
            return
        if mailbox not in self._rows:
            self._rows[mailbox] = connection.execute(
                f"SELECT {STATE_COLUMNS}, deleted_at FROM mailboxes WHERE id = ?", (mailbox,)
            ).fetchone()
        row = self._rows[mailbox]
        if row is None:
            return
        known = self._columns.get(mailbox)
        was: dict[str, Any] = {} if known is None else self._entries[known][2]
        for name, value in columns.items():
            number = MAILBOX_COLUMNS.get(name)
            if number is None or (key := str(number)) in was:
                continue
            at = _ROW[name]
            old = row[at] if at < len(row) else 0  # one that was found alive has no deleted_at
            if old != value:
                was[key] = old
        if was and known is None:
            self._columns[mailbox] = len(self._entries)
            self._note(["m", mailbox, was])

    def removes(self, connection: sqlite3.Connection, mailbox: int) -> None:
        """The row of a mailbox, and its own annotations, are about to go. It has no records."""
        if not self._kept:
            return
        row = connection.execute("SELECT * FROM mailboxes WHERE id = ?", (mailbox,)).fetchone()
        if row is not None:
            self._note(["m", mailbox, list(row)])
        self._rows.pop(mailbox, None)
        self._columns.pop(mailbox, None)

    # -- records

    def added(self, mailbox: int, records: Sequence[Record]) -> None:
        """These records are new."""
        if records:
            self._note(["+", mailbox, uid_set([record[0] for record in records])])

    def replaced(self, mailbox: int, old: Sequence[Record], new: Sequence[Record]) -> None:
        """Records, with parallel new ones that have their UIDs."""
        if not self._kept:
            return
        was: dict[str, Any] = {}
        if len(old) == 1:
            one, other = old[0], new[0]
            for at, key in _OF_RECORD:
                if one[at] != other[at]:
                    was[key] = one[at]
            self._note(["r", mailbox, str(one[0]), was])
            return
        before, after = list(zip(*old, strict=True)), list(zip(*new, strict=True))
        for at, key in _OF_RECORD:
            values = before[at]
            if values != after[at]:
                first = values[0]
                was[key] = first if values.count(first) == len(values) else values
        self._note(["r", mailbox, uid_set(before[0]), was], len(old))

    def forgets(self, mailbox: int, records: Sequence[Record], rows: Iterable[Sequence[Any]]) -> None:
        """Whole records are about to go, as they stand in the table; with their annotations."""
        if not self._kept:
            return
        for record in records:
            if record.annotations:
                self.annotations(mailbox, record.uid, record.annotations)
        whole = [[one.hex() if isinstance(one, bytes) else one for one in row] for row in rows]
        if whole:
            self._note(["-", mailbox, whole], len(whole))

    def annotations(self, mailbox: int, uid: int, was: Iterable[Annotation]) -> None:
        """The annotations of a message (0: of the mailbox itself; of mailbox 0: of the server) before they
        change."""
        notes = [[entry, userid, modseq, value.decode("latin-1")] for entry, userid, modseq, value in was]
        self._note(["a", mailbox, uid, notes], len(notes))

    # -- what else an owner has

    def quota(self, connection: sqlite3.Connection, root: str) -> None:
        """A quota root is about to change."""
        self._former(connection, "q", root, "SELECT limits, modseq FROM quotas WHERE root = ?")

    def seen(self, connection: sqlite3.Connection, uniqueid: str) -> None:
        """What is seen in a mailbox of others is about to change."""
        query = "SELECT lastread, lastuid, lastchange, seenuids FROM seen WHERE uniqueid = ?"
        self._former(connection, "e", uniqueid, query)

    def subscription(self, connection: sqlite3.Connection, name: str) -> None:
        """A subscription is about to come or go."""
        if self._kept:
            query = "SELECT 1 FROM subscriptions WHERE mailbox = ?"
            self._note(["s", name, connection.execute(query, (name,)).fetchone() is not None])

    def _former(self, connection: sqlite3.Connection, kind: str, key: str, query: str) -> None:
        if self._kept:
            self._note([kind, key, connection.execute(query, (key,)).fetchone()])

    # -- savepoints and the end

    def mark(self) -> Mark:
        """Where it stands now."""
        return Mark(self._entries, len(self._entries))

    def rewind(self, mark: Mark) -> None:
        """Forget what came after `mark`. SQLite forgets what was written since; what had been noted before
        is to be written again."""
        self._entries = mark.entries
        del self._entries[mark.length :]
        self._columns.clear()
        self._rows.clear()  # Numbers of rows may have been given out anew.

    def is_full(self) -> bool:
        """Whether it is to be written before the transaction goes on."""
        return self._records >= _FULL

    def write(self, connection: sqlite3.Connection, now: int) -> None:
        """Put what was noted into the table, all of it: what came first has to stand first. `now` in Unix
        seconds; a row's time is never before that of the row before."""
        entries, self._entries = self._entries, []  # A new list: marks have the old one.
        self._records = 0
        self._columns.clear()
        if not entries:
            return
        number = connection.execute(_INSERT, (now, encode(entries))).lastrowid
        if number and number % _LOOK_EVERY == 0:
            _bound(connection)

    def _note(self, entry: Entry, records: int = 1) -> None:
        if self._kept:
            self._entries.append(entry)
            self._records += records


# -- the text of a row

_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def encode(entries: Sequence[Entry]) -> bytes:
    """Entries as a row has them: JSON, compressed by zlib if that is worth it."""
    text = _json(entries).encode("utf-8")
    return text if len(text) <= _PLAIN else zlib.compress(text, 1)


def decode(was: bytes) -> list[Entry]:
    """What `encode` was given. Raises ValueError, zlib.error."""
    found = json.loads(was if was.startswith(b"[") else zlib.decompress(was))
    if not isinstance(found, list):
        raise ValueError("not a list")
    return found


def uid_set(uids: Sequence[int]) -> str:
    """UIDs in their order, as IMAP writes them: ``1:5,9``."""
    first, last = uids[0], uids[-1]
    if last - first == len(uids) - 1 and list(uids) == list(range(first, last + 1)):
        return str(first) if first == last else f"{first}:{last}"
    return number_set(uids).decode("ascii")


def uids_of(text: str) -> list[int]:
    """What `uid_set` was given. Raises ValueError."""
    found: list[int] = []
    for part in text.split(","):
        begin, _, end = part.partition(":")
        found.extend(range(int(begin), int(end or begin) + 1))
    return found


# -- how long it is kept


class SpokenOf(NamedTuple):
    """What the history needs to be read: `expire` leaves it."""

    records: Mapping[int, set[int]]
    """UIDs of records that were alive, by mailbox."""
    mailboxes: set[int]
    """Mailboxes that had another name, or were alive."""
    guids: set[str]
    """Messages of these records, and of records that are gone, in hex."""


def what_is_spoken_of(connection: sqlite3.Connection) -> SpokenOf:
    """Of the rows that are left. Raises `StoreCorrupt` for a damaged one."""
    records: dict[int, set[int]] = {}
    found = SpokenOf(records, set(), set())
    for seq, was in connection.execute("SELECT seq, was FROM history").fetchall():
        try:
            for entry in decode(was):
                _look_at(entry, records, found)
        except (ValueError, TypeError, IndexError, AttributeError, zlib.error) as error:
            raise StoreCorrupt(f"row {seq} of the history cannot be read: {error}") from error
    for mailbox, uids in records.items():
        found.guids.update(
            guid.hex()
            for (guid,) in connection.execute(
                "SELECT guid FROM records WHERE mailbox = ? AND uid IN (SELECT value FROM json_each(?))",
                (mailbox, json.dumps(sorted(uids))),
            )
        )
    return found


def unreadable(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Rows that cannot be read, and why."""
    for seq, was in connection.execute("SELECT seq, was FROM history ORDER BY seq"):
        try:
            for entry in decode(was):
                _look_at(entry, {}, SpokenOf({}, set(), set()))
        except (ValueError, TypeError, IndexError, AttributeError, zlib.error) as error:
            yield seq, str(error)


def _look_at(entry: Entry, records: dict[int, set[int]], found: SpokenOf) -> None:
    if entry[0] == "r" and _EXPUNGED in entry[3]:
        uids, was = uids_of(entry[2]), entry[3][_EXPUNGED]
        if isinstance(was, list):
            uids = [uid for uid, gone in zip(uids, was, strict=True) if not gone]
        records.setdefault(entry[1], set()).update(uids)
    elif entry[0] == "-":
        found.guids.update(row[_GUID] for row in entry[2])
    elif entry[0] == "m" and isinstance(entry[2], dict) and (_NAME in entry[2] or _DELETED_AT in entry[2]):
        found.mailboxes.add(entry[1])


def forget(connection: sqlite3.Connection, before: int, now: int) -> None:
    """Forget what was overwritten at `before` or earlier (Unix seconds, as `now`). A time before it cannot be
    read any more. Forget all if the clock was ahead by a day when it was written."""
    last = connection.execute("SELECT at FROM history ORDER BY seq DESC LIMIT 1").fetchone()
    if last and last[0] > now + _BELIEVED:
        connection.execute("UPDATE owner SET known_since = ?", (now,))
        connection.execute("DELETE FROM history")
    elif connection.execute("DELETE FROM history WHERE at <= ?", (before,)).rowcount:
        begins_at(connection, before)


def begins_at(connection: sqlite3.Connection, moment: int) -> None:
    """Nothing is known of earlier times."""
    connection.execute("UPDATE owner SET known_since = ? WHERE known_since < ?", (moment, moment))


def _bound(connection: sqlite3.Connection) -> None:
    """Forget the oldest where there is too much."""
    (octets,) = connection.execute("SELECT coalesce(sum(length(was)), 0) FROM history").fetchone()
    surplus = octets - MOST_OCTETS
    if surplus <= 0:
        return
    surplus += MOST_OCTETS // 4
    for seq, at, length in connection.execute("SELECT seq, at, length(was) FROM history ORDER BY seq"):
        surplus -= length
        if surplus <= 0:
            connection.execute("DELETE FROM history WHERE seq <= ?", (seq,))
            begins_at(connection, at)
            return
