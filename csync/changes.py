"""A `Settlement` in the protocol's words: what APPLY MAILBOX tells the master's own server. Pure.

A server takes new messages above its LAST_UID and records with a modseq that is not lower than its own. It
lets a record be expunged, never live again, and passes over one that is expunged on both sides. SINCE_* makes
the command good for exactly the state that it was made from.

There are two steps where a message of the master's gets another UID: first the copies, then what is to be
expunged. A server that crashes in the middle of a command may have written a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.identity import annotation_values
from cyrus_sync.common.master import Settlement
from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record, Since
from cyrus_sync.common.protocol.crc import crcs_match

BATCH = 2000
"""Records that are encoded at once."""

_COUNTED_FOR_ALL = ("foldermodseq", "raclmodseq", "xconvmodseq")


@dataclass(frozen=True, slots=True)
class Step:
    """What one APPLY MAILBOX does. `floor`: the highest modseq that either side, or the owner, has."""

    appended: tuple[Record, ...] = ()
    """New messages: those under their own UIDs, ascending; and those that get the next ones."""
    renumbered: tuple[Record, ...] = ()
    rewritten: tuple[Record, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.appended or self.renumbered or self.rewritten)


def steps(settlement: Settlement) -> list[Step]:
    """At least one. All but the records goes with the first."""
    renumbered = tuple(one.record for one in settlement.renumber)
    if all(one.adopted for one in settlement.renumber):
        return [Step(settlement.adopt, renumbered, settlement.rewrite)]
    return [Step(settlement.adopt, renumbered), Step(rewritten=settlement.rewrite)]


def update_for(
    settlement: Settlement, step: Step, now: MailboxState, *, floor: int, seconds: int
) -> MailboxUpdate:
    """What to send for `step` to the mailbox as it is `now`. `floor`: the highest modseq that the master has
    given out for anything that this owner sees; `seconds`: the time, which becomes LAST_UPDATED."""
    counters = settlement.counters
    wanted = settlement.annotations
    annotated = wanted is not None and annotation_values(wanted) != annotation_values(now.annotations)
    top = max(now.highestmodseq, counters.get("highestmodseq", 0))
    modseq = top
    if step or annotated:
        modseq = top = max(top, floor, settlement.replica.highestmodseq) + 1
    last = max(now.last_uid, counters.get("last_uid", 0))
    records = [*step.appended, *step.rewritten]
    for record in step.renumbered:
        last += 1
        records.append(record._replace(uid=last))
    records = sorted(_as_new(record, modseq, seconds, plain=not now.createdmodseq) for record in records)
    new = step.appended or step.renumbered
    state = replace(
        now,
        sync_crc=0,  # not to be compared
        sync_crc_annot=None,
        last_uid=last,
        highestmodseq=top,
        uidvalidity=max(now.uidvalidity, counters.get("uidvalidity", 0)),
        last_appenddate=max(now.last_appenddate, seconds) if new else now.last_appenddate,
        annotations=now.annotations if wanted is None else wanted,
        **{name: max(getattr(now, name), counters.get(name, 0)) for name in kept_there(now)},
    )
    if now.xconvmodseq and records:
        # Who watches conversations sees by it that something has changed.
        state = replace(state, xconvmodseq=max(state.xconvmodseq, top))
    since = Since(now.highestmodseq, now.sync_crc, now.sync_crc_annot or 0)
    batches = [records[begin : begin + BATCH] for begin in range(0, len(records), BATCH)]
    return MailboxUpdate(state, batches, since)


def kept_there(now: MailboxState) -> tuple[str, ...]:
    """The counters of `Settlement.counters` that this server keeps for more than the mailbox, and can be told
    to raise: it counts conversations, or reversed rights, where it tells a number of them."""
    return tuple(name for name in _COUNTED_FOR_ALL if name == "foldermodseq" or getattr(now, name))


def raises(settlement: Settlement, now: MailboxState) -> dict[str, int]:
    """The counters that this server can be told to raise, and how high."""
    able = {*kept_there(now), "uidvalidity", "highestmodseq", "last_uid"}
    return {
        name: value
        for name, value in settlement.counters.items()
        if name in able and value > getattr(now, name)
    }


def as_base(now: MailboxState, base: MailboxState) -> MailboxState:
    """`now`, as the server tells it, in terms in which it can be compared with `base`, which may have been
    read elsewhere: what this server does not tell, or tells otherwise, is the base's where nothing speaks
    against it."""
    same_notes = annotation_values(now.annotations) == annotation_values(base.annotations)
    agree = crcs_match((now.sync_crc, now.sync_crc_annot), (base.sync_crc, base.sync_crc_annot))
    return replace(
        now,
        deletedmodseq=now.deletedmodseq or base.deletedmodseq,
        annotations=base.annotations if same_notes else now.annotations,
        sync_crc=base.sync_crc if agree else now.sync_crc,
        sync_crc_annot=base.sync_crc_annot if agree else now.sync_crc_annot,
    )


def dropped_on_both(settlement: Settlement) -> Sequence[int]:
    """What the replica has to expunge: what was decided, and what this server passes over because it is
    expunged there already, so that its modseq does not rise and it would not be sent."""
    gone = {record.uid for record in settlement.rewrite if record.expunged}
    return sorted(gone.union(settlement.expunge))


def _as_new(record: Record, modseq: int, seconds: int, *, plain: bool) -> Record:
    """`plain`: an index that knows neither save date nor createdmodseq would keep them as annotations."""
    record = record._replace(modseq=modseq, last_updated=max(seconds, record.last_updated))
    return record._replace(savedate=0, createdmodseq=0) if plain else record
