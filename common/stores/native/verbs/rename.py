"""Renaming a mailbox, within an owner or from one to another, and moving it between partitions.

From one owner to another the order is: target first, whole and durable, then the source. A process that
crashes between the two leaves the mailbox in both places; renaming again finds that and only ends the work. A
rename that was done already changes nothing and succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from cyrus_sync.common.errors import MailboxMoved, MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.rows import Box
from cyrus_sync.common.stores.native.tables.boxes import (
    find_box,
    find_box_by_id,
    insert_box,
    remember_name,
    remove_box,
    rename_box,
    require_inbox,
    set_columns,
)
from cyrus_sync.common.stores.native.tables.counters import next_modseq, raise_owner
from cyrus_sync.common.stores.native.tables.records import insert_records
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction


class Move(NamedTuple):
    """What is asked for; "" and 0 = as it was. `local` = a change of this master, with new counters and the
    action log."""

    old: str
    new: str
    partition: str
    uidvalidity: int
    local: bool
    without_inbox: bool


def rename_within(transaction: Transaction, move: Move) -> None:
    """Rename or move a mailbox of one owner. Raises `MailboxNonexistent`; `UnknownFailure` for a name that is
    taken, or where the user has no INBOX."""
    old, new = move.old, move.new
    box = find_box(transaction, old)
    if box is None or box.state.intermediate:
        if old != new and was_renamed(transaction.reader, old, new):
            return
        raise MailboxNonexistent().at(mailbox=old)
    if old != new:
        _make_room(transaction, move, box.state.uniqueid)
    columns = _changed_columns(transaction, box, move)
    if old != new:
        rename_box(transaction, box, new, **columns)
        _log(transaction, move)
    elif columns:
        transaction.change()
        set_columns(transaction, box.id, **columns)
        transaction.log("MAILBOX", new, chained=not move.local)


class Columns(TypedDict, total=False):
    """What a rename changes besides the name."""

    partition: str
    uidvalidity: int
    highestmodseq: int
    foldermodseq: int


def _changed_columns(transaction: Transaction, box: Box, move: Move) -> Columns:
    """A replica leaves the counters to the master; a local rename is a change of the folder."""
    columns = Columns()
    if move.partition and move.partition != box.state.partition:
        columns["partition"] = move.partition
    if move.uidvalidity and move.uidvalidity != box.state.uidvalidity:
        columns["uidvalidity"] = move.uidvalidity
    if move.local:
        columns["highestmodseq"] = columns["foldermodseq"] = next_modseq(transaction)
    return columns


def _log(transaction: Transaction, move: Move) -> None:
    transaction.log("RENAME", move.old, move.new, chained=not move.local)
    transaction.log("MAILBOX", move.old, chained=not move.local)
    transaction.log("MAILBOX", move.new, chained=not move.local)


def was_renamed(reader: Reader, old: str, new: str) -> bool:
    """Whether `new` is what was called `old` before."""
    there = reader.mailbox(new)
    return there is not None and not there.intermediate and old in reader.former_names(there.uniqueid)


def _make_room(transaction: Transaction, move: Move, uniqueid: str) -> None:
    """Raises unless a mailbox may get its new name; an intermediate of that name gives way."""
    new = move.new
    there = find_box(transaction, new)
    if there is None:
        if not move.without_inbox:
            require_inbox(transaction, new)
        return
    if not there.state.intermediate:
        raise UnknownFailure("Mailbox already exists").at(mailbox=new, uniqueid=uniqueid)
    remove_box(transaction, there, tombstone=False)


# -- from one owner to another


def rename_across(leaving: Transaction, arriving: Transaction, move: Move) -> None:
    """Carry a mailbox from one owner to another; the caller commits `arriving` first. Raises
    `MailboxNonexistent`, `MailboxMoved`; `UnknownFailure` for a name that is taken, or where the user has no
    INBOX."""
    box = find_box(leaving, move.old)
    if box is None or box.state.intermediate:
        if was_renamed(arriving.reader, move.old, move.new):
            return
        raise MailboxNonexistent().at(mailbox=move.old)
    copy = _copy_box(leaving, arriving, box, move)
    remember_name(leaving, box.state.uniqueid, move.old)
    remove_box(leaving, box, modseq=copy.state.foldermodseq)


def _copy_box(leaving: Transaction, arriving: Transaction, box: Box, move: Move) -> Box:
    """Everything of a mailbox, under its new name, into its new owner."""
    uniqueid = box.state.uniqueid
    there = find_box(arriving, move.new)
    if there and there.state.uniqueid == uniqueid:
        return there
    if find_box_by_id(arriving, uniqueid):
        raise MailboxMoved().at(mailbox=move.new, uniqueid=uniqueid)
    _make_room(arriving, move, uniqueid)
    arriving.change(move.partition or box.state.partition)
    raise_owner(arriving, modseq=box.state.highestmodseq)
    columns = _changed_columns(arriving, box, move)
    copy = insert_box(arriving, replace(box.state, name=move.new, **columns))
    tally = Tally(copy)
    for records in leaving.reader.records(uniqueid):
        _copy_messages(leaving, arriving, records)
        stored = arriving.reader.has_guids({record.guid for record in records})
        insert_records(arriving, copy.id, tally, records, stored=stored)
    set_columns(arriving, copy.id, **tally.columns())
    for name in reversed(leaving.reader.former_names(uniqueid)):
        remember_name(arriving, uniqueid, name)
    remember_name(arriving, uniqueid, move.old)
    _log(arriving, move)
    return copy


def _copy_messages(leaving: Transaction, arriving: Transaction, records: Sequence[Record]) -> None:
    guids = {record.guid for record in records}
    wanted = sorted(guids - arriving.reader.has_guids(guids))

    def frames() -> Iterator[MessageBody]:
        for batch in leaving.reader.bodies(wanted, encoding="zstd"):
            yield from batch

    store_bodies(arriving, frames(), checked=True)
