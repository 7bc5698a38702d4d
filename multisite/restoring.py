"""Restoring a replica from a backup: it gets back what it had told the others, before it goes on.

The log of a restored replica ends earlier than the others know it. If the replica went on numbering from
there, two operations would have one number. So it is *sealed*: it records nothing. Its packets carry no
operations; their headers say under a new *incarnation* what it has. Whoever imports such a packet takes the
sender's word for that, and sends all the rest with the next export, the sender's own operations included.
When all siblings that were asked have answered, the replica opens again. (Those to which it sends no packets
hear of it from others, `passing_on`.) Then it records what was changed
here meanwhile, and arbitrates what others have said of its owners.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.mail import SiteReader
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base, Master, prevails
from cyrus_sync.multisite.oplog.operations import FAMILY, LogEntry
from cyrus_sync.multisite.packet import Header
from cyrus_sync.multisite.packet.restores import Knowing, Restore
from cyrus_sync.multisite.packet.values import MAX_OPERATION
from cyrus_sync.multisite.passing_on import answers, said_by
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.family_operations import announce
from cyrus_sync.multisite.vetting import read

ANSWER = b""
"""Stands among the GUIDs for which a replica has asked, where it is owed a packet even without operations."""


def begin(member: Member, asked: Iterable[Replica]) -> list[Replica]:
    """Seal this replica until the siblings that are asked have answered. Returns these siblings: a packet has
    to be exported to each.

    Raises `MultisiteError` if nobody else is asked; `open_again` is the way out then."""
    siblings = [one for one in asked if one.id != member.family.self_id]
    if not siblings:
        raise MultisiteError("there is no other replica that could be asked")
    log, family = member.log, member.family
    incarnation = max(log.now(), member.myself.incarnation + 1)
    with log.db.transaction():
        log.forks.begin(_roll_back(member) | _behind(member))
        for owner in log.shadows.owners():
            for state in log.shadows.at_home(owner):
                log.masters.put_base(state.uniqueid, _restored_base(log, owner, state))
        if member.generation is not None:
            member.generation.renew()
    myself = replace(member.myself, incarnation=incarnation)
    asked_now = {one.id: incarnation for one in siblings}
    member.set_family(replace(family.with_replica(myself), restoring=asked_now))
    return siblings


def _roll_back(member: Member) -> set[Owner]:
    """Where the store was restored and the log was not, take the log back to the moment of the store. Returns
    the owners of whom the log had told more: of them nothing is known for sure."""
    log = member.log
    row = member.generation.older_row() if member.generation is not None else None
    if row is None:
        return set()
    masters = [entry for entry in log.operations.lacking(row) if entry.verb == "MASTER"]
    owners = log.operations.roll_back(row) - {FAMILY}
    for entry in reversed(masters):
        _take_back_master(log, entry)
    log.masters.roll_back_settled(row)
    log.regained.lower_to(row.get(log.self_id, 0))
    log.trimmed.lower_to(row)
    return owners


def _take_back_master(log: Log, undone: LogEntry) -> None:
    """An operation that is undone said who is an owner's master. Nobody may have heard of it,
    and a reign that leaves out one before it is refused everywhere."""
    said = read(undone).master
    entries = log.operations.history(owner=undone.owner)
    told = (read(entry).master for entry in entries if entry.verb == "MASTER")
    left = [one for one in told if one is not None]
    if left:
        log.masters.put(undone.owner, functools.reduce(_prevailing, left))
    elif said is not None and said.version:
        # The operation of the master before was trimmed. It was he who has handed the owner over.
        log.masters.put(undone.owner, Master(said.version - 1, undone.origin))
    else:
        log.masters.drop(undone.owner)


def _prevailing(one: Master, other: Master) -> Master:
    return other if prevails(other, one) else one


def _behind(member: Member) -> set[Owner]:
    """The owners of whom the log tells more than the store has. That the store is older is not always known
    otherwise: a backup of before the first command has no stamp. Of them nothing is known for sure either."""
    log, found = member.log, set()
    for owner in log.shadows.owners():
        with contextlib.suppress(StoreCorrupt), member.store.read(owner) as reader:
            for told in log.shadows.mailboxes(owner):
                if not told.intermediate and _is_older(reader, told, log.masters.base(told.uniqueid)):
                    found.add(log.home(told.uniqueid, told.name))
    return found


def _is_older(reader: SiteReader, told: MailboxState, base: Base) -> bool:
    """Whether a mailbox here lacks what the log tells of it."""
    here = reader.mailbox_by_id(told.uniqueid)
    if here is None:
        return reader.tombstone(told.uniqueid) is None
    return here.last_uid < max(told.last_uid, base.last_uid) or here.highestmodseq < base.modseq


def _restored_base(log: Log, owner: Owner, state: MailboxState) -> Base:
    """What ours builds on. Of our own mailboxes the backup's store is what its log tells: our operations that
    come back build on that. To another master we may have said something since that was not heard: whatever
    it answers, ours counts as not answered."""
    if log.is_master(owner):
        return Base(state.highestmodseq, state.last_uid, 0, state.highestmodseq)
    base = log.masters.base(state.uniqueid)
    return Base(base.modseq, base.last_uid, MAX_OPERATION, base.modseq)


def open_again(member: Member, after_restore: Callable[[Collection[Owner]], object]) -> None:
    """Open a sealed replica, whether or not everybody has answered (``-override``). `after_restore` tells
    anew what was merged, and arbitrates what others have said meanwhile
    (`multisite.working.Work.after_restore`)."""
    log = member.log
    myself = replace(member.myself, version=member.myself.version + 1)
    anew = log.forks.told_anew() - {FAMILY}
    if (first := log.forks.first) is not None:
        # A sibling that has another operation under a number has not got the messages of this one.
        log.operations.forget_introduced(first)
        myself = replace(myself, forked=log.operations.last(log.self_id))
    announce(member, replace(member.family.with_replica(myself), restoring={}))
    after_restore(anew)
    for error in member.capture.everything():
        member.warn(f"not all changes could be recorded: {error}")
    log.forks.end()


def where_they_part(log: Log, replica: str, restore: Restore) -> Row:
    """What a replica (id) has that was restored: the row that it tells. Of its own operations it has only
    those that are the same here, and those of before that it has got back; what comes behind them, it has
    said anew."""
    if not restore.trail:
        return dict(restore.row)
    said = restore.row.get(replica, 0)
    trail = ((int(text), link) for text, link in restore.trail.items())
    told = [(number, link) for number, link in trail if number <= said]
    told += [(number, link) for link, number in restore.taken.items()]
    numbers = [number for number, link in told if log.forks.has(replica, number, link)]
    mine = log.operations.last(replica)
    return {**restore.row, replica: max(numbers, default=0 if mine else said)}


def note_restore(member: Member, context: ReplayContext, replica: str, restore: Restore) -> bool:
    """Whether a replica (id) was restored since we heard of it last. If so, that is noted, and the replica is
    owed an answer."""
    log, known = member.log, context.family.replicas.get(replica)
    if known is None or replica == log.self_id or restore.incarnation <= known.incarnation:
        return False
    context.family = context.family.with_replica(replace(known, incarnation=restore.incarnation))
    log.epochs.put(replica, where_they_part(log, replica, restore))
    log.request(replica, [ANSWER])
    context.notice(f"{known.name} was restored from a backup: it is sent what it lacks with the next export")
    return True


def note_row(log: Log, header: Header) -> None:
    """Note what a packet proves its sender to have. While the sender is being restored, its own operations
    are not those that are here under the same numbers: until it has got these back, they are sent again."""
    has = where_they_part(log, header.sender, said_by(header))
    log.epochs.raise_to(header.sender, has)
    own = has.get(header.sender, 0)
    if own < header.row.get(header.sender, 0):
        log.epochs.put(header.sender, {**log.epochs.row(header.sender), header.sender: own})


def note_answer(member: Member, header: Header) -> bool:
    """Note that the sender of a packet has answered a restore, or others of whom it knows that they know of
    the restore; True if all siblings that were asked have now. One has not if it has an operation of this
    replica that has not come back: that got lost, or comes later."""
    family, log = member.family, member.log
    if not member.sealed or not header.last:
        return False
    known = dict(answers(header, family.self_id, family.myself.incarnation))
    for_us = next((one for one in header.targets if one.id == family.self_id), None)
    if for_us is not None and for_us.incarnation == family.myself.incarnation:
        known[header.sender] = Knowing(header.row, header.heads.get(family.self_id, ""))
    left = dict(family.restoring)
    for replica, knowing in known.items():
        if replica not in left:
            continue
        # What was believed of it may be of another life.
        log.epochs.put(replica, knowing.row)
        if _has_all(log, knowing):
            del left[replica]
    if left and left != family.restoring:
        member.set_family(replace(family, restoring=left))
    return not left


def _has_all(log: Log, knowing: Knowing) -> bool:
    """Whether this replica, which is being restored, has got what a sibling had."""
    mine = log.epochs.row(log.self_id)
    if any(mine.get(origin, 0) < number for origin, number in knowing.row.items()):
        return False
    return not knowing.link or log.forks.is_known(knowing.row.get(log.self_id, 0), knowing.link)
