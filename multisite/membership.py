"""Changing what the family knows of its replicas: written here, and told to the others in packets."""

from __future__ import annotations

from dataclasses import replace

from multisite.errors import MultisiteError
from multisite.family import Replica, check_replica_name
from multisite.member import Member
from multisite.replay.members import give_back_names, tell_replica


def change_replica(member: Member, one: Replica) -> Replica:
    """Have a replica be `one` from now on, as the next version of it; what it is now. Raises `SiteSealed`
    while this replica is being restored."""
    member.check_unsealed()
    made = replace(one, version=member.family.replicas[one.id].version + 1)
    with member.log.db.transaction():
        tell_replica(member.log, made)
        member.set_family(give_back_names(member.family.with_replica(made)))
    return member.family.replicas[one.id]


def rename_replica(member: Member, one: Replica, name: str) -> Replica:
    """Give a replica another name. Raises `MultisiteError` for one that is taken."""
    check_replica_name(name)
    if member.family.named(name, but=one.id) is not None:
        raise MultisiteError(f"there is a replica {name!r} in the family already")
    return change_replica(member, replace(one, name=name, wanted=""))


def remove_replica(member: Member, one: Replica, *, force: bool = False) -> None:
    """Take a replica out of the family: nothing is exported to it any more, and it has no say.

    Raises `MultisiteError` for this replica itself, and, without `force`, for one that is master of owners:
    nobody would settle what is changed of theirs."""
    if one.id == member.family.self_id:
        raise MultisiteError(f"{one.name} is this replica itself; remove it at another one")
    owners = member.log.masters.of_replica(one.id)
    if owners and not force:
        named = ", ".join(map(str, owners[:5])) + (", …" if len(owners) > 5 else "")
        raise MultisiteError(
            f"{one.name} is the master of {len(owners)} owner(s): {named}; hand them over there (multitool"
            f" chmaster), or take them over here (multitool chmaster -force), or use -force"
        )
    change_replica(member, replace(one, removed=True))
    with member.log.db.transaction():
        member.log.epochs.forget(one.id)
        member.log.fulfilled(one.id)
