"""Arbitrating messages: what becomes of the records of another replica in the master's mailbox.

They go by the rules of a live pair (`sync_client.engine.conflict`). One thing is known besides: the *base*,
which is the master's state on which the other replica built. A record above the base's last UID was born at
the other replica, so it is never taken for one that was forgotten here. A message that was arbitrated before
is recognised by its dates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cyrus_sync.common.identity import Identity, identities, identity, is_same, merged, same_content
from cyrus_sync.common.model import MailboxState, MailboxUpdate, MessageBody, Record
from cyrus_sync.multisite.mail import SiteReader, SiteWriter
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.replay.packet_messages import PacketMessages
from cyrus_sync.multisite.replay.three_way import records
from cyrus_sync.sync_client.engine.conflict import (
    Action,
    Adopt,
    Counters,
    ExpungeRemote,
    Renumber,
    Rewrite,
    decide,
    two_messages,
)

Before = Callable[[Record], Record | None]
"""What the other replica had of a message before it said this of it; None where nobody knows."""


def arbitrate_records(
    writer: SiteWriter,
    local: MailboxState,
    update: MailboxUpdate,
    base: Base,
    *,
    messages: PacketMessages,
    before: Before = lambda _record: None,
    discard: Callable[[Record, list[tuple[str, str]]], object] = lambda _record, _notes: None,
) -> None:
    """Carry out in the mailbox `local` what becomes of the records of `update`, which was built on `base`.
    `discard` hears of annotations of which a change was discarded."""
    uniqueid = local.uniqueid
    theirs = [record for batch in update.records for record in batch]
    ours = Ours(writer, uniqueid, base, theirs)
    actions = plan_arbitration(ours, theirs, base, local.last_uid, before=before, discard=discard)
    actions = mark_left(actions, local.highestmodseq + 1)
    for kept in [act for act in actions if isinstance(act, Adopt) and act.keep_uid]:
        _adopt(writer, uniqueid, kept, messages)
    writer.raise_counters(uniqueid, last_uid=update.state.last_uid)
    for act in actions:
        if isinstance(act, Adopt) and not act.keep_uid:
            _adopt(writer, uniqueid, act, messages)
        elif isinstance(act, Renumber):
            writer.adopt(uniqueid, act.record, None, keep_uid=False)
    rewritten = {act.record.uid: act.record for act in actions if isinstance(act, Rewrite)}
    if rewritten:
        writer.rewrite_records(uniqueid, list(rewritten.values()))


def mark_left(actions: Sequence[Action], modseq: int) -> list[Action]:
    """`actions` in which the expunged records that renumbered messages leave behind have another identity
    (`createdmodseq` is `modseq`). With the same identity they would read as the removal of the message."""
    moved = {act.record.uid for act in actions if isinstance(act, Renumber)}
    return [
        Rewrite(act.record._replace(createdmodseq=modseq))
        if isinstance(act, Rewrite) and act.record.expunged and act.record.uid in moved
        else act
        for act in actions
    ]


def _adopt(writer: SiteWriter, uniqueid: str, act: Adopt, messages: PacketMessages) -> None:
    body: MessageBody | None = messages.get(act.record.guid)
    writer.adopt(uniqueid, act.record, body, keep_uid=act.keep_uid)


class Ours:
    """The master's records that the other's records may be about: by UID, and above the base by identity."""

    def __init__(self, reader: SiteReader, uniqueid: str, base: Base, theirs: Iterable[Record]) -> None:
        wanted = {record.uid for record in theirs}
        born = any(record.uid > base.last_uid for record in theirs)
        self.by_uid: dict[int, Record] = {}
        self.by_identity: dict[Identity, Record] = {}
        start = 0 if min(wanted, default=0) <= base.last_uid else base.last_uid
        if not wanted:
            return
        for batch in reader.records(uniqueid, above_uid=start):
            for record in batch:
                if record.uid in wanted:
                    self.by_uid[record.uid] = record
                if born and record.uid > base.last_uid:
                    for key in identities(record):
                        self.by_identity.setdefault(key, record)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The master's and the other's record of one message."""

    ours: Record
    theirs: Record


def plan_arbitration(
    ours: Ours,
    theirs: Sequence[Record],
    base: Base,
    last_uid: int,
    *,
    before: Before = lambda _record: None,
    discard: Callable[[Record, list[tuple[str, str]]], object] = lambda _record, _notes: None,
) -> list[Action]:
    """What becomes of the other's records, given in order of UID. `last_uid` is the master's LAST_UID. Pure,
    but for the reading that `ours` has done."""
    counters = Counters(last_uid, 0, base.last_uid, base.modseq)
    actions: list[Action] = []
    for record in theirs:
        mine = ours.by_uid.get(record.uid)
        if record.uid <= base.last_uid:
            # A record that is not here any more was cleaned up since: the other's is out of date.
            if mine is not None and mine.guid == record.guid:
                actions += _same_message(_Pair(mine, record), base, before, discard)
            continue
        twin = mine if mine is not None and is_same(mine, record) else ours.by_identity.get(identity(record))
        if twin is not None:
            actions += _same_message(_Pair(twin, record), base, before, discard)
        elif mine is not None and mine.guid == record.guid:
            # A message and a copy of it, born apart under one UID.
            actions += _both(two_messages(mine, record))
        else:
            actions += _both(decide(mine, record, counters))
    return actions


def _both(actions: Sequence[Action]) -> list[Action]:
    """Those of `actions` that are done here. The other replica hears of the rest by what is told."""
    return [act for act in actions if not isinstance(act, ExpungeRemote)]


def _same_message(
    pair: _Pair,
    base: Base,
    before: Before,
    discard: Callable[[Record, list[tuple[str, str]]], object],
) -> list[Action]:
    """An expunge wins; else the change since the base, if there is only one; else flag by flag and entry by
    entry what either has changed, and the later change where both have changed one entry."""
    ours, theirs = pair.ours, pair.theirs
    if ours.expunged and theirs.expunged:
        return []
    if same_content(ours, theirs):
        return [Rewrite(merged(ours, theirs, other_wins=False))]
    later = theirs.last_updated >= ours.last_updated
    if ours.uid <= base.last_uid and ours.modseq <= base.modseq:
        return [Rewrite(merged(ours, theirs, other_wins=True))]
    both = records(before(theirs), ours, theirs, other_wins=later)
    if both.discarded:
        discard(ours, both.discarded)
    return [Rewrite(both.record)]
