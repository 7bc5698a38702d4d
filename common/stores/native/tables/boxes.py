"""Mailboxes as rows: finding, making, naming and removing them, with tombstones and former names."""

from __future__ import annotations

from typing import Any

from cyrus_sync.common.errors import MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import inbox_of, is_deleted, is_inbox, sort_key
from cyrus_sync.common.stores.native.rows import (
    INSERT_ANNOTATION,
    STATE_COLUMNS,
    Box,
    annotation_rows,
    annotations_of,
    state_of,
    state_values,
    storable,
)
from cyrus_sync.common.stores.native.tables.counters import next_modseq, raise_owner
from cyrus_sync.common.stores.native.tables.quotas import quotaroot_of
from cyrus_sync.common.stores.native.tables.tally import weight
from cyrus_sync.common.stores.native.transaction import Transaction

LARGE = 2000
"""Of an owner whose first mailbox has given out so many UIDs, the index will not stay small."""


def box_sort(name: str) -> str:
    """Key of the order in which mailboxes are listed: live ones in mailboxes.db order, then deleted."""
    return f"{int(is_deleted(name))}{sort_key(name)}"


# -- finding


def find_box(transaction: Transaction, name: str) -> Box | None:
    """The live mailbox `name`, which may be an intermediate."""
    return _find(transaction, "name", name)


def find_box_by_id(transaction: Transaction, uniqueid: str) -> Box | None:
    """The live mailbox with this uniqueid."""
    return _find(transaction, "uniqueid", uniqueid)


def _find(transaction: Transaction, column: str, value: str) -> Box | None:
    if not storable(value):
        return None
    row = transaction.db.execute(
        f"SELECT id, messages, bytes, annotation_bytes, {STATE_COLUMNS} FROM mailboxes"
        f" WHERE {column} = ? AND deleted_at = 0",
        (value,),
    ).fetchone()
    if row is None:
        return None
    notes = annotations_of(transaction.db, row[0], [0]).get(0, ())
    columns = row[4:]
    transaction.history.found(row[0], columns)
    return Box(row[0], state_of(columns, notes), *row[1:4])


def get_box(transaction: Transaction, name: str) -> Box:
    """The mailbox `name`, which may be an intermediate; raises `MailboxNonexistent`."""
    found = find_box(transaction, name)
    if found is None:
        raise MailboxNonexistent().at(mailbox=name)
    return found


def get_box_by_id(transaction: Transaction, uniqueid: str) -> Box:
    """The mailbox with this uniqueid; raises `MailboxNonexistent`."""
    found = find_box_by_id(transaction, uniqueid)
    if found is None:
        raise MailboxNonexistent().at(uniqueid=uniqueid)
    return found


def get_real_box(transaction: Transaction, name: str, uniqueid: str = "") -> Box:
    """`get_box`, for callers that may be given an intermediate: that is no mailbox to them. `uniqueid` goes
    into the address of the error only."""
    found = get_box(transaction, name)
    if found.state.intermediate:
        raise MailboxNonexistent().at(mailbox=name, uniqueid=uniqueid)
    return found


def find_inbox(transaction: Transaction) -> Box | None:
    """The user's INBOX; None for one who has none, and for an owner that is not a user."""
    owner = transaction.owner
    return find_box(transaction, inbox_of(owner.name)) if owner.kind == "user" else None


def require_inbox(transaction: Transaction, name: str) -> None:
    """Raises `UnknownFailure` for the name of a user's mailbox where the user has no INBOX."""
    if transaction.owner.kind != "user" or is_deleted(name) or is_inbox(name):
        return
    if find_inbox(transaction) is None:
        raise UnknownFailure(f"{transaction.owner} has no INBOX").at(mailbox=name)


# -- changing


def insert_box(transaction: Transaction, state: MailboxState) -> Box:
    """A new mailbox without messages. Its CRCs are those of an empty one. A `change`."""
    transaction.change(state.partition, large=state.last_uid > LARGE)
    columns: dict[str, Any] = state_values(state)
    del columns["sync_crc"], columns["sync_crc_annot"]
    columns["sort"] = box_sort(state.name)
    columns["quotaroot"] = quotaroot_of(transaction, state.name)
    columns["annotation_bytes"] = weight(state.annotations)
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    cursor = transaction.db.execute(
        f"INSERT INTO mailboxes ({names}) VALUES ({marks})", tuple(columns.values())
    )
    number = cursor.lastrowid or 0
    transaction.history.made(number)
    transaction.db.executemany(INSERT_ANNOTATION, annotation_rows(number, 0, state.annotations))
    _dig_up(transaction, state.name, state.uniqueid)
    raise_owner(transaction, modseq=state.highestmodseq, uidvalidity=state.uidvalidity)
    transaction.hint(state.uniqueid, transaction.owner)
    return get_box(transaction, state.name)


def set_columns(transaction: Transaction, mailbox: int, **columns: Any) -> None:
    """Write columns of the mailbox in row `mailbox`."""
    transaction.history.changes(transaction.db, mailbox, columns)
    assignments = ", ".join(f"{name} = ?" for name in columns)
    transaction.db.execute(f"UPDATE mailboxes SET {assignments} WHERE id = ?", (*columns.values(), mailbox))


def folder_changed(transaction: Transaction, box: Box, **columns: str | int) -> None:
    """The mailbox as an object is changed here: columns, a new highestmodseq and foldermodseq, a line for the
    action log. A `change`."""
    modseq = next_modseq(transaction)
    set_columns(transaction, box.id, **columns, highestmodseq=modseq, foldermodseq=modseq)
    transaction.log("MAILBOX", box.state.name)


def rename_box(transaction: Transaction, box: Box, new: str, **columns: Any) -> Box:
    """Give a mailbox another name within the owner; the old one stays as tombstone and history.
    A `change`."""
    transaction.change()
    modseq = columns.get("foldermodseq", box.state.highestmodseq)
    uniqueid = box.state.uniqueid
    remember_name(transaction, uniqueid, box.state.name)
    root = quotaroot_of(transaction, new)
    set_columns(transaction, box.id, name=new, sort=box_sort(new), quotaroot=root, **columns)
    bury(transaction, box.state.name, uniqueid, modseq)
    _dig_up(transaction, new, uniqueid)
    return get_box(transaction, new)


def remove_box(transaction: Transaction, box: Box, *, modseq: int = 0, tombstone: bool = True) -> None:
    """The mailbox is gone for everybody but `expire` and `undelete`: records and messages stay. A `change`.

    An intermediate has nothing to restore and goes at once. `modseq` is the tombstone's.
    """
    transaction.change()
    now = transaction.around.now()
    if tombstone:
        bury(transaction, box.state.name, box.state.uniqueid, modseq or box.state.highestmodseq)
    if box.state.intermediate:
        transaction.history.annotations(box.id, 0, box.state.annotations)
        transaction.history.removes(transaction.db, box.id)
        transaction.db.execute("DELETE FROM annotations WHERE mailbox = ?", (box.id,))
        transaction.db.execute("DELETE FROM mailboxes WHERE id = ?", (box.id,))
    else:
        set_columns(transaction, box.id, deleted_at=now, quotaroot="")
    transaction.hint(box.state.uniqueid, None)


def bring_box_back(transaction: Transaction, number: int, uniqueid: str, name: str) -> MailboxState:
    """Undo `remove_box` under the name `name`, which is free, as a change here. A `change`."""
    modseq = next_modseq(transaction)
    set_columns(
        transaction,
        number,
        deleted_at=0,
        name=name,
        sort=box_sort(name),
        highestmodseq=modseq,
        foldermodseq=modseq,
    )
    set_columns(transaction, number, quotaroot=quotaroot_of(transaction, name))
    _dig_up(transaction, name, uniqueid)
    transaction.hint(uniqueid, transaction.owner)
    return get_box(transaction, name).state


def purge_box(transaction: Transaction, number: int) -> None:
    """Forget a removed mailbox for good; its messages stay in the packs until `expire`."""
    for table in ("annotations", "records"):
        transaction.db.execute(f"DELETE FROM {table} WHERE mailbox = ?", (number,))
    transaction.db.execute("DELETE FROM mailboxes WHERE id = ? AND deleted_at > 0", (number,))


def bury(transaction: Transaction, name: str, uniqueid: str, modseq: int) -> None:
    """Leave a tombstone."""
    transaction.db.execute(
        "INSERT OR REPLACE INTO tombstones (name, uniqueid, deleted_at, modseq) VALUES (?, ?, ?, ?)",
        (name, uniqueid, transaction.around.now(), modseq),
    )


def _dig_up(transaction: Transaction, name: str, uniqueid: str) -> None:
    """The mailbox has this name again: no tombstone says otherwise."""
    transaction.db.execute("DELETE FROM tombstones WHERE uniqueid = ? AND name = ?", (uniqueid, name))


def remember_name(transaction: Transaction, uniqueid: str, name: str) -> None:
    """Add to the name history."""
    transaction.db.execute(
        "INSERT INTO former_names (uniqueid, name, renamed_at) VALUES (?, ?, ?)",
        (uniqueid, name, transaction.around.now()),
    )
