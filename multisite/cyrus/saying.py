"""The words of a master, as a csync server can be told them. Pure.

A server takes new messages above its LAST_UID, and changes of records whose modseq does not fall. It lets a
record be expunged and never live again, and under one UID there is one message for good. What does not fit
into that is `CannotBeSaid`, with the place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record, Since
from cyrus_sync.multisite.errors import CannotBeSaid


def applied(
    update: MailboxUpdate, records: Iterable[Record], now: MailboxState, mine: Mapping[int, Record]
) -> MailboxUpdate:
    """An update that builds on just what is there, `now` with `mine` (records by UID): CRCs are compared
    afterwards."""
    said = [record for record in records if _may_be_said(record, now, mine.get(record.uid))]
    state = replace(update.state, xconvmodseq=max(update.state.xconvmodseq, now.xconvmodseq))
    return MailboxUpdate(state, _batches(said), since_of(now), update.partial)


def imposed(
    update: MailboxUpdate,
    records: Iterable[Record],
    now: MailboxState,
    mine: Mapping[int, Record],
    *,
    drop: Collection[int] = (),
    keep: Sequence[Record] = (),
) -> MailboxUpdate:
    """An update that makes `now` what the master says, and puts `keep` on top of it. What is to be forgotten
    (`drop`) is expunged: a server forgets nothing."""
    state = update.state
    told: dict[int, Record] = {}
    top = max(state.highestmodseq, now.highestmodseq, *(record.modseq for record in keep), 0)
    for record in records:
        there = mine.get(record.uid)
        if _may_be_said(record, now, there):
            higher = there is not None and there.modseq > record.modseq
            told[record.uid] = record._replace(modseq=top) if higher else record
    for uid in drop:
        there = mine.get(uid)
        if there is not None and not there.expunged and uid not in told:
            told[uid] = there._replace(expunged=True, modseq=top)
    for record in keep:
        if _may_be_said(record, now, mine.get(record.uid)):
            told[record.uid] = record
    whole = replace(
        state,
        sync_crc=0,  # not to be compared
        sync_crc_annot=None,
        highestmodseq=top,
        last_uid=max(state.last_uid, now.last_uid, *told, 0),
        uidvalidity=max(state.uidvalidity, now.uidvalidity),
        xconvmodseq=max(state.xconvmodseq, now.xconvmodseq),
    )
    return MailboxUpdate(whole, _batches([told[uid] for uid in sorted(told)]), since_of(now))


def since_of(now: MailboxState) -> Since:
    """The command holds for exactly this state."""
    return Since(now.highestmodseq, now.sync_crc, now.sync_crc_annot or 0)


def _may_be_said(record: Record, now: MailboxState, mine: Record | None) -> bool:
    """False for what need not be said: the record is expunged, and expunged or unknown here."""
    if mine is None:
        if record.uid > now.last_uid:
            return True
        if record.expunged:
            return False
        raise CannotBeSaid(
            f"UID {record.uid} was passed over here, and is message {record.guid.hex()} for its master"
        ).at(mailbox=now.name, uniqueid=now.uniqueid)
    if record.expunged and mine.expunged:
        return False
    if record.guid != mine.guid:
        raise CannotBeSaid(
            f"UID {record.uid} is message {mine.guid.hex()} here, and {record.guid.hex()} for its master"
        ).at(mailbox=now.name, uniqueid=now.uniqueid)
    if mine.expunged:
        raise CannotBeSaid(f"UID {record.uid} was expunged here, and is alive for its master").at(
            mailbox=now.name, uniqueid=now.uniqueid
        )
    return True


def _batches(records: Sequence[Record]) -> list[Sequence[Record]]:
    return [records[begin : begin + 2000] for begin in range(0, len(records), 2000)]
