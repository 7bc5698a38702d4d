"""One mailbox of two that want one name: an INBOX that was born at two sites, or folders of one special use.

Where accounts are provisioned by whoever meets a user first, a user is born at several sites. Nobody named
anything, so nobody has to rename: the user's master takes the messages of the other mailbox into the one that
has the name, and deletes the other one. Everybody hears of that in the master's word. Mail that came into the
other one meanwhile makes it anew at the master, and is merged when it comes (`arbitrate`).

A message that is in both, with one date, is one message: it has the flags of both. Of two copies the one of
the other mailbox stays: whoever does not know of the merge yet may have expunged the first one, because there
was the second (as clients do that cannot move).

What was expunged in the mailbox that has the name is that copy alone. Another one may have been moved to
the other mailbox, and is taken over. Only what came by an earlier merge of the same two is not brought back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.identity import Identity, identity
from cyrus_sync.common.model import Annotation, MailboxState, Record
from cyrus_sync.common.names import is_deleted, is_inbox, owner_of
from cyrus_sync.multisite.mail import SiteWriter
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.objects import Object
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.three_way import by_entry, entries, flags, united

SPECIAL_USE = "/specialuse"
"""The annotation that says what a folder is for (RFC 6154)."""


def merge_twins(context: ReplayContext) -> None:
    """Merge what the policy of the family merges, of the users whose master is here."""
    for thing in context.log.objects.in_conflict():
        try:
            if twins := _twins(context, thing):
                merge(context, thing, *twins)
        except (ReplyError, StoreCorrupt) as error:
            context.notice(f"{context.external(thing.local)} cannot be merged: {error}")


def is_to_be_merged(context: ReplayContext, thing: Object) -> bool:
    """Whether `merge_twins` is about to merge a mailbox into the one that has its name."""
    with contextlib.suppress(ReplyError, StoreCorrupt):
        return _twins(context, thing) is not None
    return False


def _twins(context: ReplayContext, thing: Object) -> tuple[MailboxState, MailboxState] | None:
    """The mailbox that has the name, and the one that wants it, where the policy of the family is to merge
    them and this replica is the one that does it."""
    if context.family.inbox_policy != "merge" or not may_merge(context.log, thing):
        return None
    holder, other = _both(context, thing)
    if holder and other and (is_inbox(thing.wanted) or _is_one_use(holder, other)):
        return holder, other
    return None


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
        count = _messages(writer, holder, other, again=_was_deleted(log, other.uniqueid))
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


def _was_deleted(log: Log, uniqueid: str) -> bool:
    """Whether somebody has deleted the mailbox before, as a merge does."""
    return any(entry.verb == "UNMAILBOX" for entry in log.operations.about(uniqueid))


def _messages(writer: SiteWriter, holder: MailboxState, other: MailboxState, *, again: bool) -> int:
    """Take the messages over; how many. `again`: the two may have been merged before."""
    live: dict[tuple[bytes, int], list[Record]] = {}
    gone: set[Identity] = set()
    for record in _records(writer, holder):
        if not record.expunged:
            live.setdefault((record.guid, record.internaldate), []).append(record)
        elif again:
            gone.add(identity(record))
    rewritten: list[Record] = []
    new: list[Record] = []
    for record in _records(writer, other):
        if record.expunged:
            continue
        twin = _take_twin(live.get((record.guid, record.internaldate), []), record)
        if twin is None and identity(record) not in gone:
            new.append(record)
        elif twin is not None and identity(twin) != identity(record):
            new.append(_of_both(twin, record))
            rewritten.append(twin._replace(expunged=True))
        elif twin is not None and (both := flags(None, twin.flags, record.flags)) != twin.flags:
            rewritten.append(twin._replace(flags=both))
    for record in new:
        writer.adopt(holder.uniqueid, record, None, keep_uid=False)
    if rewritten:
        writer.rewrite_records(holder.uniqueid, rewritten)
    return len(new)


def _take_twin(twins: list[Record], record: Record) -> Record | None:
    """Take one of `twins`: the very same message if it is there, else a copy of it; None if there is none."""
    if not twins:
        return None
    place = next((place for place, one in enumerate(twins) if identity(one) == identity(record)), 0)
    return twins.pop(place)


def _of_both(twin: Record, record: Record) -> Record:
    """`record` with the flags and annotations of both."""
    notes, _ = entries(None, by_entry(twin.annotations), by_entry(record.annotations), other_wins=False)
    together = tuple(sorted(notes.values(), key=lambda note: (note.entry, note.userid)))
    return record._replace(flags=flags(None, twin.flags, record.flags), annotations=together)


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
