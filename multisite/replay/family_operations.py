"""Operations on the family itself: replicas come, change and go, and two may have been given one name."""

from __future__ import annotations

from dataclasses import replace

from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import FAMILY, LogEntry
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.names import WARNING
from cyrus_sync.multisite.vetting import keys_to_believe


def tell_replica(log: Log, one: Replica) -> LogEntry:
    """Append an operation that says what a replica is now; returns it."""
    attributes = {"replica": one.text()}
    return log.operations.append(FAMILY, b"APPLY REPLICA %()\r\n", time=log.now(), attributes=attributes)


def announce(member: Member, family: Family) -> None:
    """Write a changed family, and tell the others of this replica. `Family.telling` is set between the two,
    so that the second is done after a crash."""
    member.set_family(replace(family, telling=True))
    with member.log.db.transaction():
        tell_replica(member.log, member.myself)
    member.set_family(replace(member.family, telling=False))


def note_replica(context: ReplayContext, entry: LogEntry, said: Replica) -> None:
    """Take over what an operation says of a replica, if that is newer than what is known here."""
    family = context.family
    known = family.replicas.get(said.id)
    if known is not None and (known.version, known.text()) >= (said.version, said.text()):
        return
    said = keys_to_believe(family, entry, said, context.warn)
    other = family.named(said.name, but=said.id)
    if other is not None and not said.removed:
        name = generated = f"{family.name_of(said.creator or entry.origin)}_{said.name}"
        number = 0
        while family.named(name, but=said.id):
            number += 1
            name = f"{generated}_{number}"
        if known is None or known.name != name:
            context.warn(WARNING.format(name=name))
        said = replace(said, name=name, wanted=said.name)
    context.family = give_back_names(family.with_replica(said))


def give_back_names(family: Family) -> Family:
    """The family in which every replica has the name that it wants, as far as that is free now."""
    for one in family.living():
        if one.wanted and family.named(one.wanted, but=one.id) is None:
            family = family.with_replica(replace(one, name=one.wanted, wanted=""))
    return family
