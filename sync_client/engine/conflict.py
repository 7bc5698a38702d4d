"""Both sides changed: what becomes of every message. Pure; the doing is in `full_update`.

The records of master and replica are walked side by side by UID. "M" and "R" below are the master's and
the replica's record of one UID, × is expunged, – is absent.

=====================  ==========================================================================
M and R, same GUID     nothing differs, or both ×: nothing. One ×: expunge wins, M is × with a new
                       modseq. Both live: R's flags, conversation and annotations win if R's modseq
                       is higher and R's last change not earlier. M is rewritten in either case,
                       unless it stays as it is and will be sent: its modseq is above all of R's
M and R, other GUID    both ×: nothing. Else every live one survives under a new UID, lower GUID
                       first; M is ×, the UID is expunged on the replica
M live, R –            below the replica's LAST_UID: M moves to a new UID. Above: it will be sent,
                       and is rewritten if its modseq would be overlooked
M –, R live            above the master's LAST_UID: adopted under its UID. Below: adopted under a
                       new UID and expunged on the replica; or, if M can have been cleaned up
                       since R last changed, R is stale and only expunged on the replica
×, – in any other mix  nothing
=====================  ==========================================================================

No live message disappears unless one side expunged it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.identity import Identity, differs, identities, identity, merged
from cyrus_sync.common.model import MailboxState, Record


class Counters(NamedTuple):
    """The header values that rows of the table refer to."""

    master_last_uid: int
    master_deletedmodseq: int
    replica_last_uid: int
    replica_highestmodseq: int

    @classmethod
    def of(cls, master: MailboxState, replica: MailboxState) -> Counters:
        return cls(master.last_uid, master.deletedmodseq, replica.last_uid, replica.highestmodseq)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The master's record of this UID becomes `record`, with a new modseq."""

    record: Record


@dataclass(frozen=True, slots=True)
class Renumber:
    """A copy of the master's `record` is appended on the master under a new UID."""

    record: Record


@dataclass(frozen=True, slots=True)
class Adopt:
    """The replica's `record` comes to the master, under its own UID or a new one."""

    record: Record
    keep_uid: bool


@dataclass(frozen=True, slots=True)
class ExpungeRemote:
    """The UID is expunged on the replica, after everything else is safe on the master."""

    uid: int


Action = Rewrite | Renumber | Adopt | ExpungeRemote


def decide(master: Record | None, replica: Record | None, counters: Counters) -> list[Action]:
    """The actions for one UID, in the order in which they are carried out."""
    if master is not None and replica is not None:
        if master.expunged and replica.expunged:
            return []
        if master.guid == replica.guid:
            return _same_message(master, replica, counters)
        return two_messages(master, replica)
    if master is not None:
        return _master_only(master, counters)
    if replica is not None:
        return _replica_only(replica, counters)
    return []


def walk(
    master: Iterable[Sequence[Record]], replica: Iterable[Sequence[Record]], counters: Counters
) -> Iterator[Action]:
    """The actions for a whole mailbox. Both record lists ascend by UID."""
    for our, their in pairs(master, replica):
        yield from decide(our, their, counters)


def pairs(
    master: Iterable[Sequence[Record]], replica: Iterable[Sequence[Record]]
) -> Iterator[tuple[Record | None, Record | None]]:
    """Both sides' records of every UID that one of them has."""
    ours, theirs = _flat(master), _flat(replica)
    our, their = next(ours, None), next(theirs, None)
    while our is not None or their is not None:
        if their is None or (our is not None and our.uid < their.uid):
            yield our, None
            our = next(ours, None)
        elif our is None or their.uid < our.uid:
            yield None, their
            their = next(theirs, None)
        else:
            yield our, their
            our, their = next(ours, None), next(theirs, None)


def without_adopted(
    actions: Sequence[Action], master: Iterable[Sequence[Record]], replica: Iterable[Sequence[Record]]
) -> list[Action]:
    """`actions` without adoptions that an interrupted run has made already.

    An adopted message has kept its content, its dates and its createdmodseq; a copy that somebody made on
    purpose has others. (From a replica that knows neither save date nor createdmodseq, only records of
    which it knows nothing are taken for adopted ones.) One that was expunged here since is not adopted
    again either.
    """
    sought = {identity(a.record) for a in actions if isinstance(a, Adopt) and not a.keep_uid}
    if not sought:
        return list(actions)
    live: Counter[Identity] = Counter()
    expunged: Counter[Identity] = Counter()
    for our, their in pairs(master, replica):
        if our is None:
            continue
        known = next((key for key in identities(our) if key in sought), None)
        if known is None:
            continue
        if any(known[2:]) or their is None or their.guid != our.guid:
            (expunged if our.expunged else live)[known] += 1
    kept: list[Action] = []
    for action in actions:
        if isinstance(action, Adopt) and not action.keep_uid:
            sought_as = identity(action.record)
            made = live if sought_as in live else expunged
            if made[sought_as]:
                made[sought_as] -= 1
                continue
        kept.append(action)
    return kept


def without_copied(actions: Sequence[Action], master: Iterable[Sequence[Record]]) -> list[Action]:
    """`actions` without new UIDs for messages of the master's own that an interrupted run has copied already
    and not yet expunged under the old ones.

    Such a copy has a higher UID, and a newer modseq than the message itself and than when that was made;
    nobody else makes one with the same dates.
    """
    sought = {identity(act.record): act.record for act in actions if isinstance(act, Renumber)}
    if not sought:
        return list(actions)
    copies: Counter[Identity] = Counter()
    for record in _flat(master):
        was = None if record.expunged else sought.get(identity(record))
        if was is not None and record.uid > was.uid:
            copies[identity(record)] += record.modseq > max(was.modseq, was.createdmodseq) > 0
    kept: list[Action] = []
    for action in actions:
        if isinstance(action, Renumber) and copies[identity(action.record)]:
            copies[identity(action.record)] -= 1
        else:
            kept.append(action)
    return kept


def replica_wins(master: Record, replica: Record) -> bool:
    """True if the replica's flags are newer than the master's."""
    return replica.modseq > master.modseq and replica.last_updated >= master.last_updated


def _same_message(master: Record, replica: Record, counters: Counters) -> list[Action]:
    if not differs(master, replica):
        return []
    result = merged(master, replica, other_wins=replica_wins(master, replica))
    if result == master and master.modseq > counters.replica_highestmodseq:
        return []
    return [Rewrite(result)]


def two_messages(master: Record, replica: Record) -> list[Action]:
    """What becomes of two messages that have one UID: every live one survives under a new one."""
    moved: list[tuple[bytes, Action]] = []
    if not master.expunged:
        moved.append((master.guid, Renumber(master)))
    if not replica.expunged:
        moved.append((replica.guid, Adopt(replica, keep_uid=False)))
    actions = [action for _, action in sorted(moved, key=lambda pair: pair[0])]
    if not master.expunged:
        actions.append(Rewrite(master._replace(expunged=True)))
    if not replica.expunged:
        actions.append(ExpungeRemote(replica.uid))
    return actions


def _master_only(master: Record, counters: Counters) -> list[Action]:
    if master.expunged:
        return []
    if master.uid <= counters.replica_last_uid:
        return [Renumber(master), Rewrite(master._replace(expunged=True))]
    if master.modseq <= counters.replica_highestmodseq:
        return [Rewrite(master)]
    return []


def _replica_only(replica: Record, counters: Counters) -> list[Action]:
    if replica.expunged:
        return []
    if replica.uid > counters.master_last_uid:
        return [Adopt(replica, keep_uid=True)]
    if replica.modseq >= counters.master_deletedmodseq:
        return [Adopt(replica, keep_uid=False), ExpungeRemote(replica.uid)]
    return [ExpungeRemote(replica.uid)]


def _flat(batches: Iterable[Sequence[Record]]) -> Iterator[Record]:
    for batch in batches:
        yield from batch
