"""Rows of the index as values of `common.model`, and back.

SQLite's integers are signed, as times are (one before 1970 is negative, here and in a CRC); conversation
ids of 64 bits are stored as two's complement (`to_signed`) and come back as they were.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from cyrus_sync.common.errors import ProtocolError
from cyrus_sync.common.model import Annotation, MailboxState, Record

_TOP = 1 << 63
_WRAP = 1 << 64

STATE_COLUMNS = (
    "uniqueid, name, mbtype, sync_crc, sync_crc_annot, last_uid, highestmodseq, recentuid, recenttime,"
    " last_appenddate, pop3_last_login, pop3_show_after, xconvmodseq, raclmodseq, usergroups, uidvalidity,"
    " partition, acl, options, quotaroot, createdmodseq, foldermodseq, deletedmodseq, userflags"
)
"""The columns of `mailboxes` in the order of the fields of `MailboxState`, without annotations."""

_STATE_NAMES = tuple(name.strip() for name in STATE_COLUMNS.split(","))

RECORD_COLUMNS = (
    "uid, modseq, last_updated, flags, expunged, internaldate, size, guid, thrid, savedate, createdmodseq"
)
"""The columns of `records` in the order of the fields of `Record`, without annotations."""

INSERT_RECORD = (
    f"INSERT INTO records (mailbox, {RECORD_COLUMNS}, annotations, unlinked)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_RECORD = (
    "UPDATE records SET modseq = ?, last_updated = ?, flags = ?, expunged = ?, internaldate = ?,"
    " thrid = ?, savedate = ?, createdmodseq = ?, annotations = ? WHERE mailbox = ? AND uid = ?"
)
INSERT_ANNOTATION = (
    "INSERT OR REPLACE INTO annotations (mailbox, uid, entry, userid, modseq, value)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)

_ROWS_AT_ONCE = 20


class Box(NamedTuple):
    """A mailbox with its row number and its usage: live messages, their bytes, bytes of annotations."""

    id: int
    state: MailboxState
    messages: int
    bytes: int
    annotation_bytes: int


def storable(text: str) -> bool:
    """Whether `text` is valid Unicode; nothing else is ever stored, so nothing else is ever found."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def to_signed(value: int) -> int:
    """An unsigned 64-bit number as SQLite can hold it; raises `ProtocolError` for larger ones."""
    if value < _TOP:
        return value
    if value >= _WRAP:
        raise ProtocolError("number out of range")
    return value - _WRAP


def to_unsigned(value: int) -> int:
    """What `to_signed` was given."""
    return value if value >= 0 else value + _WRAP


def record_row(mailbox: int, record: Record, *, unlinked: bool = False) -> tuple[Any, ...]:
    """The parameters of `INSERT_RECORD`."""
    uid, modseq, updated, flags, expunged, date, size, guid, thrid, saved, created, annotations = record
    if thrid >= _TOP or date >= _TOP or updated >= _TOP or saved >= _TOP:
        thrid, date, updated, saved = map(to_signed, (thrid, date, updated, saved))
    return (
        mailbox, uid, modseq, updated, flags, 1 if expunged else 0, date, size, guid, thrid, saved, created,
        len(annotations), 1 if unlinked else 0,
    )  # fmt: skip


def update_row(mailbox: int, record: Record) -> tuple[Any, ...]:
    """The parameters of `UPDATE_RECORD`."""
    row = record_row(mailbox, record)
    return (*row[2:7], *row[9:13], mailbox, record.uid)


def annotation_rows(mailbox: int, uid: int, annotations: Iterable[Annotation]) -> Iterator[tuple[Any, ...]]:
    """The parameters of `INSERT_ANNOTATION`."""
    for entry, userid, modseq, value in annotations:
        yield mailbox, uid, entry, userid, modseq, value


def insert_rows(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """``executemany`` of an ``INSERT … VALUES (?, …)``, some rows a step: between two steps other threads may
    take over, which costs more than a row does."""
    end = len(rows) - len(rows) % _ROWS_AT_ONCE
    for start in range(0, end, _ROWS_AT_ONCE):
        values = chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])
        connection.execute(_of_many_rows(statement), tuple(values))
    connection.executemany(statement, rows[end:])


@cache
def _of_many_rows(statement: str) -> str:
    values = statement.partition(" VALUES ")[2]
    return statement + f", {values}" * (_ROWS_AT_ONCE - 1)


def records_of(connection: sqlite3.Connection, mailbox: int, rows: Sequence[tuple[Any, ...]]) -> list[Record]:
    """Records of one mailbox from rows (`RECORD_COLUMNS`, annotations) in ascending order of uid.

    One more statement for the whole list, and only if any of them has annotations.
    """
    annotated = [row[0] for row in rows if row[11]]
    notes = annotations_of(connection, mailbox, annotated) if annotated else {}
    return [
        Record(
            uid, modseq,
            updated, flags, expunged == 1, date, size, guid,
            thrid if thrid >= 0 else thrid + _WRAP,
            saved, created,
            notes.get(uid, ()) if count else (),
        )
        for uid, modseq, updated, flags, expunged, date, size, guid, thrid, saved, created, count in rows
    ]  # fmt: skip


def annotations_of(
    connection: sqlite3.Connection, mailbox: int, uids: Sequence[int]
) -> dict[int, tuple[Annotation, ...]]:
    """The annotations of these messages (0 = the mailbox's own), by uid, sorted by (entry, userid)."""
    found: defaultdict[int, list[Annotation]] = defaultdict(list)
    for uid, entry, userid, modseq, value in connection.execute(
        "SELECT uid, entry, userid, modseq, value FROM annotations WHERE mailbox = ?"
        " AND uid IN (SELECT value FROM json_each(?)) ORDER BY uid, entry, userid",
        (mailbox, json.dumps(list(uids))),
    ):
        found[uid].append(Annotation(entry, userid, modseq, value))
    return {uid: tuple(notes) for uid, notes in found.items()}


def state_of(row: Sequence[Any], annotations: tuple[Annotation, ...] = ()) -> MailboxState:
    """A mailbox from its `STATE_COLUMNS`. An intermediate reads as a real server lists it."""
    return MailboxState(*[*row[:-1], tuple(row[-1].split()), annotations])


def state_values(state: MailboxState) -> dict[str, Any]:
    """Columns and values of a mailbox, without its annotations."""
    values = {name: getattr(state, name) for name in _STATE_NAMES}
    values["userflags"] = " ".join(state.userflags)
    for name in ("recenttime", "last_appenddate", "pop3_last_login", "pop3_show_after"):
        values[name] = to_signed(values[name])
    return values
