"""Cutting a mailbox into APPLYs of bounded size. Pure.

A mailbox that owes the replica more than `Limits` allow is sent as several *partial* updates and a last,
complete one. A partial update takes the replica to a `Cut`: a UID up to which new messages are sent and
a modseq that is below that of everything left out. Records within the cut that have changed since are
sent with the cut's modseq if they are new, and left out if the replica knows them already: either way a
later update sends them again, because their modseq is above the cut. Messages of modseq 1 are never cut
off, since there is nothing below (but 1 belongs to the creation of a mailbox, not to its messages).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from cyrus_sync.common.model import MAX_MODSEQ, MailboxState, Record


class Limits(NamedTuple):
    """Bounds of one APPLY: records (new ones and changed ones each) and bytes of new messages."""

    records: int
    octets: int


class Cut(NamedTuple):
    """What the replica's LAST_UID and HIGHESTMODSEQ are after a partial update."""

    uid: int
    modseq: int


class ReplicaBase(NamedTuple):
    """What the replica has: its LAST_UID and HIGHESTMODSEQ, zeros if it has no such mailbox."""

    uid: int
    modseq: int

    @classmethod
    def of(cls, remote: MailboxState | None) -> ReplicaBase:
        return cls(remote.last_uid, remote.highestmodseq) if remote else cls(0, 0)


def fits(
    batches: Iterable[Sequence[Record]], base: ReplicaBase, limits: Limits
) -> list[Sequence[Record]] | None:
    """All the batches if they are within `limits`, else None. Reads no further than it must."""
    kept: list[Sequence[Record]] = []
    new = changed = octets = 0
    for batch in batches:
        for record in batch:
            if record.uid > base.uid:
                new += 1
                octets += record.size
            else:
                changed += 1
        if new > limits.records or changed > limits.records or (octets > limits.octets and new > 1):
            return None
        kept.append(batch)
    return kept


def plan_cuts(batches: Iterable[Sequence[Record]], base: ReplicaBase, limits: Limits) -> list[Cut]:
    """The partial updates on the way from `base`; the complete update comes after the last.

    `batches` are the records with a modseq above the base's. Costs 12 octets of memory a record. Where
    every record has the same modseq no cut may exist and the list is empty.
    """
    uids, modseqs, ends = array("I"), array("Q"), []
    changed = array("Q")
    count = octets = 0
    for batch in batches:
        for record in batch:
            if record.uid <= base.uid:
                changed.append(record.modseq)
                continue
            if count and (count >= limits.records or octets + record.size > limits.octets):
                ends.append(len(uids))
                count = octets = 0
            uids.append(record.uid)
            modseqs.append(record.modseq)
            count += 1
            octets += record.size
    last_uid = uids[-1] if uids else base.uid
    return _merge(_new_cuts(uids, modseqs, ends), _changed_cuts(changed, limits.records), last_uid)


def _new_cuts(uids: Sequence[int], modseqs: Sequence[int], ends: list[int]) -> list[Cut]:
    """A cut before each of `ends`, its modseq below that of every new record after it."""
    cuts: list[Cut] = []
    lowest = MAX_MODSEQ
    position = len(uids)
    for end in reversed(ends):
        lowest = min(lowest, *modseqs[end:position])
        position = end
        cuts.append(Cut(uids[end - 1], lowest - 1))
    return cuts[::-1]


def _changed_cuts(modseqs: array[int], size: int) -> list[int]:
    """Modseqs that part the changed records into groups of at most `size`, equal ones together."""
    ordered = sorted(modseqs)
    cuts: list[int] = []
    begin = 0
    while len(ordered) - begin > size:
        end = begin + size
        while end > begin and ordered[end - 1] == ordered[end]:
            end -= 1
        if end == begin:
            end += 1
            while end < len(ordered) and ordered[end] == ordered[end - 1]:
                end += 1
            if end == len(ordered):
                break
        cuts.append(ordered[end - 1])
        begin = end
    return cuts


def _merge(new: list[Cut], changed: list[int], last_uid: int) -> list[Cut]:
    """One rising sequence from both. A change may be cut off at any modseq below that of the new
    records which are left out, so it rides with the new cut that is the first above it."""
    cuts: list[Cut] = []
    pending = deque(changed)
    modseq = 0
    for uid, bound in [*new, Cut(last_uid, MAX_MODSEQ)]:
        while pending and pending[0] < bound:
            if pending[0] > modseq:
                modseq = pending[0]
                cuts.append(Cut(uid, modseq))
            pending.popleft()
        if 0 < bound < MAX_MODSEQ:
            modseq = bound
            cuts.append(Cut(uid, modseq))
    return cuts


def select(
    batches: Iterable[Sequence[Record]], base: ReplicaBase, cut: Cut | None
) -> Iterator[Sequence[Record]]:
    """The records to send from `base` to `cut` (None = the complete update)."""
    if cut is None:
        yield from batches
        return
    for batch in batches:
        part = [
            record if record.modseq <= cut.modseq else record._replace(modseq=cut.modseq)
            for record in batch
            if record.uid <= cut.uid and (record.modseq <= cut.modseq or record.uid > base.uid)
        ]
        if part:
            yield part
        if batch and batch[-1].uid >= cut.uid:
            return


def partial_state(local: MailboxState, remote: MailboxState | None, cut: Cut) -> MailboxState:
    """The header of a partial update: the cut's counters, no CRCs, the replica's own bookkeeping."""
    known = remote or MailboxState(uniqueid=local.uniqueid, name=local.name)
    return replace(
        local,
        sync_crc=0,
        sync_crc_annot=None,
        last_uid=cut.uid,
        highestmodseq=cut.modseq,
        last_appenddate=0,
        recentuid=known.recentuid,
        recenttime=known.recenttime,
        pop3_last_login=known.pop3_last_login,
        pop3_show_after=known.pop3_show_after,
        xconvmodseq=known.xconvmodseq,
        raclmodseq=known.raclmodseq,
    )


def after(sent: MailboxState) -> MailboxState:
    """What the replica has once it has accepted a partial update; its CRCs are not known."""
    return replace(sent, sync_crc=0, sync_crc_annot=0)
