"""Renaming a mailbox, within an owner or from one to another, and moving it between partitions.

From one owner to another the order is: target first, whole and durable, then the source. Whoever dies
between leaves the mailbox in both places; renaming again finds that and only ends the work. A rename
that is asked for a second time, after it was done, changes nothing and succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from cyrus_sync.common.errors import MailboxMoved, MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.names import Owner, check_mailbox_name, inbox_of, is_deleted, owner_of
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.tally import Tally
from cyrus_sync.common.stores.native.transaction import Box
from cyrus_sync.common.stores.native.writer import Writer

if TYPE_CHECKING:
    from cyrus_sync.common.stores.native.store import NativeStore


class Move(NamedTuple):
    """What is asked for. `local` = a change of this master, with new counters and the action log."""

    old: str
    new: str
    partition: str
    uidvalidity: int
    local: bool
    without_inbox: bool


def rename(
    store: NativeStore,
    old: str,
    new: str,
    *,
    partition: str,
    uidvalidity: int,
    log: bool,
    timeout: float,
    without_inbox: bool = False,
) -> None:
    """See `MailStore.rename`."""
    check_mailbox_name(old)
    check_mailbox_name(new)
    partition = store.layout.check_partition(partition) if partition else ""
    move = Move(old, new, partition, uidvalidity, log, without_inbox)
    source, target = owner_of(old), owner_of(new)
    if source == target:
        with store.write(source, create=False, timeout=timeout) as writer:
            _rename_within(writer, move)
    else:
        _rename_across(store, move, timeout)


def _rename_within(writer: Writer, move: Move) -> None:
    old, new = move.old, move.new
    box = writer.find_box("name", old)
    if box is None or box.state.intermediate:
        if old != new and _was_done(writer, old, new):
            return
        raise MailboxNonexistent().at(mailbox=old)
    if old != new:
        _make_room(writer, move, box.state.uniqueid)
    columns = _changed_columns(writer, box, move)
    if old != new:
        writer.rename_box(box, new, **columns)
        _log(writer, move)
    elif columns:
        writer.change()
        writer.set_columns(box.id, **columns)
        writer.log("MAILBOX", new, chained=not move.local)


class Columns(TypedDict, total=False):
    """What a rename changes besides the name."""

    partition: str
    uidvalidity: int
    highestmodseq: int
    foldermodseq: int


def _changed_columns(writer: Writer, box: Box, move: Move) -> Columns:
    """A replica leaves the counters to the master; a local rename is a change of the folder."""
    columns = Columns()
    if move.partition and move.partition != box.state.partition:
        columns["partition"] = move.partition
    if move.uidvalidity and move.uidvalidity != box.state.uidvalidity:
        columns["uidvalidity"] = move.uidvalidity
    if move.local:
        columns["highestmodseq"] = columns["foldermodseq"] = writer.next_modseq()
    return columns


def _log(writer: Writer, move: Move) -> None:
    writer.log("RENAME", move.old, move.new, chained=not move.local)
    writer.log("MAILBOX", move.old, chained=not move.local)
    writer.log("MAILBOX", move.new, chained=not move.local)


def _was_done(reader: Reader, old: str, new: str) -> bool:
    """Whether `new` is what was called `old` before."""
    there = reader.mailbox(new)
    return there is not None and not there.intermediate and old in reader.former_names(there.uniqueid)


def _make_room(writer: Writer, move: Move, uniqueid: str) -> None:
    """Raises unless a mailbox may get its new name; an intermediate of that name gives way."""
    new = move.new
    there = writer.find_box("name", new)
    if there is None:
        if not move.without_inbox:
            writer.require_inbox(new)
        return
    if not there.state.intermediate:
        raise UnknownFailure("Mailbox already exists").at(mailbox=new, uniqueid=uniqueid)
    writer.remove_box(there, tombstone=False)


# -- from one owner to another


def _rename_across(store: NativeStore, move: Move, timeout: float) -> None:
    source, target = owner_of(move.old), owner_of(move.new)
    with store.write(source, timeout=timeout) as leaving, store.write(target, timeout=timeout) as arriving:
        box = leaving.find_box("name", move.old)
        if box is None or box.state.intermediate:
            if _was_done(arriving, move.old, move.new):
                return
            raise MailboxNonexistent().at(mailbox=move.old)
        copy = _copy_box(leaving, arriving, box, move)
        leaving.remember_name(box.state.uniqueid, move.old)
        leaving.remove_box(box, modseq=copy.state.foldermodseq)
        leaving.purge_box(box.id)
    # The inner context, the target's, has been committed before the outer one.


def _copy_box(leaving: Writer, arriving: Writer, box: Box, move: Move) -> Box:
    """Everything of a mailbox, under its new name, into its new owner."""
    uniqueid = box.state.uniqueid
    there = arriving.find_box("name", move.new)
    if there and there.state.uniqueid == uniqueid:
        return there
    if arriving.find_box("uniqueid", uniqueid):
        raise MailboxMoved().at(mailbox=move.new, uniqueid=uniqueid)
    _make_room(arriving, move, uniqueid)
    arriving.change(move.partition or box.state.partition)
    arriving.raise_owner(modseq=box.state.highestmodseq)
    columns = _changed_columns(arriving, box, move)
    copy = arriving.insert_box(replace(box.state, name=move.new, **columns))
    tally = Tally(copy)
    for records in leaving.records(uniqueid):
        _copy_messages(leaving, arriving, records)
        stored = arriving.has_guids({record.guid for record in records})
        arriving.insert_records(copy.id, tally, records, stored=stored)
    arriving.set_columns(copy.id, **tally.columns())
    for name in reversed(leaving.former_names(uniqueid)):
        arriving.remember_name(uniqueid, name)
    arriving.remember_name(uniqueid, move.old)
    _log(arriving, move)
    return copy


def _copy_messages(leaving: Writer, arriving: Writer, records: Sequence[Record]) -> None:
    guids = {record.guid for record in records}
    wanted = sorted(guids - arriving.has_guids(guids))

    def frames() -> Iterator[MessageBody]:
        for batch in leaving.bodies(wanted, encoding="zstd"):
            yield from batch

    store_bodies(arriving, frames(), checked=True)


# -- a whole user


def _renamed_acl(acl: str, old: str, new: str) -> str:
    """`acl` with the rights of `old` given to `new`."""
    fields = acl.split("\t")
    return "\t".join(new if number % 2 == 0 and name == old else name for number, name in enumerate(fields))


def rename_user(store: NativeStore, old: str, new: str, *, timeout: float = 5.0) -> None:
    """Make user `old` user `new`: every mailbox in the order of the list (INBOX first), then ACLs,
    subscriptions, seen state and quota limits. What delayed delete has set aside stays with `old`.

    A local change; ends with ``UNUSER old`` and ``USER new`` in the log. If it was interrupted, doing it
    again ends it. Raises `MailboxNonexistent` if there is no such user, `UnknownFailure` if `new` is taken.
    """
    source, target = Owner("user", old), Owner("user", new)
    old_inbox, new_inbox = inbox_of(old), inbox_of(new)

    def moved(name: str) -> str:
        inside = name == old_inbox or name.startswith(old_inbox + ".")
        return new_inbox + name[len(old_inbox) :] if inside else name

    with store.read(source) as reader:
        there = [state for state in reader.mailboxes() if not is_deleted(state.name)]
        names = [state.name for state in there if not state.intermediate]
        meta, quotas = reader.meta(with_sieve=False), reader.quotas()
    with store.read(target) as reader:
        begun = _was_done(reader, old_inbox, new_inbox)
    if old_inbox not in names and not begun:
        raise MailboxNonexistent().at(user=old)
    for name in names:
        rename(store, name, moved(name), partition="", uidvalidity=0, log=True, timeout=timeout)
    with store.write(target, timeout=timeout) as writer:
        for state in writer.mailboxes():
            acl = _renamed_acl(state.acl, old, new)
            if acl != state.acl:
                writer.folder_changed(writer.box(state.name), acl=acl)
        for name in meta.subscriptions:
            writer.put_subscription(moved(name), True)
        for seen in meta.seen:
            writer.put_seen(seen)
        for quota in quotas:
            writer.put_quota(moved(quota.root), quota.limits, writer.next_modseq())
        writer.assign_quotaroots()
    with store.write(source, timeout=timeout) as writer:
        writer.change()
        writer.forget_user()
        writer.log("UNUSER", old)
        writer.log("USER", new)
