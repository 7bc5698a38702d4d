"""One mailbox of two that want one name: an INBOX that was born at two sites, or folders of one special use.

Where accounts are provisioned by whoever meets a user first, a user is born at several sites. Nobody named
anything, so nobody has to rename: the user's master takes the messages of the other mailbox into the one that
has the name, and deletes the other one. Everybody hears of that in the master's word. Mail that came into the
other one meanwhile makes it anew at the master, and is merged when it comes (`arbitrate`).

A message that is in both, with one date, is one message: it has the flags of both. One that was expunged in
the mailbox that stays is not brought back by the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.model import Annotation, MailboxState, Record
from cyrus_sync.common.names import is_deleted, is_inbox, owner_of
from cyrus_sync.multisite.mail import SiteWriter
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.objects import Object
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.three_way import flags, united

SPECIAL_USE = "/specialuse"
"""The annotation that says what a folder is for (RFC 6154)."""


def merge_twins(context: ReplayContext) -> None:
    """Merge what the policy of the family merges, of the users whose master is here."""
    for thing in context.log.objects.in_conflict():
        if context.family.inbox_policy != "merge" or not may_merge(context.log, thing):
            continue
        try:
            holder, other = _both(context, thing)
            if holder and other and (is_inbox(thing.wanted) or _is_one_use(holder, other)):
                merge(context, thing, holder, other)
        except (ReplyError, StoreCorrupt) as error:
            context.notice(f"{context.external(thing.local)} cannot be merged: {error}")


def merge_all(context: ReplayContext, things: Iterable[Object]) -> int:
    """Merge these, whatever they are (``multitool merge``). Returns how many were. Raises what the store
    raises."""
    count = 0
    for thing in things:
        holder, other = _both(context, thing)
        if holder and other:
            merge(context, thing, holder, other)
            count += 1
    return count


def may_merge(log: Log, thing: Object) -> bool:
    """Whether this replica is the master of whoever has the mailbox, and nothing is to be done first."""
    owner = owner_of(thing.wanted)
    return thing.owner == owner and log.is_master(owner) and not log.operations.has_pending(owner)


def _both(context: ReplayContext, thing: Object) -> tuple[MailboxState | None, MailboxState | None]:
    """The mailbox that has the name, and the one that wants it, if both have their home in that owner."""
    if is_deleted(thing.wanted):
        return None, None
    with context.batch.reader(thing.owner) as reader:
        holder, other = reader.mailbox(thing.wanted), reader.mailbox_by_id(thing.uniqueid)
    if holder is None or holder.intermediate or other is None or other.name != thing.local:
        return None, None
    if context.log.home(holder.uniqueid, holder.name) != thing.owner or holder.mbtype != other.mbtype:
        return None, None
    return holder, other


def _is_one_use(one: MailboxState, other: MailboxState) -> bool:
    uses = [
        {
            word.lower()
            for note in state.annotations
            if note.entry == SPECIAL_USE
            for word in note.value.split()
        }
        for state in (one, other)
    ]
    return bool(uses[0]) and uses[0] == uses[1]


def merge(context: ReplayContext, thing: Object, holder: MailboxState, other: MailboxState) -> None:
    """Take all of `other` into `holder`, and delete it."""
    log, owner = context.log, thing.owner
    writer = context.batch.writer(owner)
    with writer.savepoint():
        count = _messages(writer, holder, other)
        _header(writer, holder, other)
        if log.shadows.get(other.uniqueid) is None:
            # Somebody may have it from a replica that was taken for the master: all are told that it is gone.
            log.shadows.put(owner, other)
        writer.apply_unmailbox(other.name)
    log.objects.set_names(other.uniqueid, "", "")
    context.to_capture.add(owner)
    context.notice(
        f"{context.external(thing.wanted)} was made at two sites: {count} messages of"
        f" {context.family.name_of(thing.creator)}'s were merged into it"
    )


def _messages(writer: SiteWriter, holder: MailboxState, other: MailboxState) -> int:
    """Take the messages over; how many."""
    known: dict[tuple[bytes, int], Record] = {}
    for record in _records(writer, holder):
        twin = known.get((record.guid, record.internaldate))
        if twin is None or twin.expunged:
            known[record.guid, record.internaldate] = record
    rewritten: dict[int, Record] = {}
    new: list[Record] = []
    for record in _records(writer, other):
        twin = known.get((record.guid, record.internaldate))
        if record.expunged or (twin is not None and twin.expunged):
            continue
        if twin is None:
            new.append(record)
            continue
        both = flags(None, rewritten.get(twin.uid, twin).flags, record.flags)
        if both != twin.flags:
            rewritten[twin.uid] = twin._replace(flags=both)
    for record in new:
        writer.adopt(holder.uniqueid, record, None, keep_uid=False)
    if rewritten:
        writer.rewrite_records(holder.uniqueid, list(rewritten.values()))
    return len(new)


def _records(writer: SiteWriter, state: MailboxState) -> list[Record]:
    return [record for batch in writer.records(state.uniqueid) for record in batch]


def _header(writer: SiteWriter, holder: MailboxState, other: MailboxState) -> None:
    """Rights and annotations that only the other one has."""
    have = {(note.entry, note.userid) for note in holder.annotations}
    more = [note for note in other.annotations if (note.entry, note.userid) not in have]
    annotations: Sequence[Annotation] | None = [*holder.annotations, *more] if more else None
    acl = united(holder.acl, other.acl)
    if more or acl != holder.acl:
        writer.change_header(holder.uniqueid, acl=acl if acl != holder.acl else None, annotations=annotations)
