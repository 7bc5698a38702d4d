"""Changing what the family knows of its replicas: it is written here, and told to the others in packets."""

from __future__ import annotations

from dataclasses import replace

from cyrus_sync.multisite import keyring
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Replica, check_replica_name
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.packet import BadKeys, PublicKeys
from cyrus_sync.multisite.packet.succession import Succession
from cyrus_sync.multisite.replay.family_operations import announce, give_back_names, tell_replica


def change_replica(member: Member, one: Replica) -> Replica:
    """Have a replica be `one` from now on, with the next version. Returns what it is now, which has another
    name where that of `one` is taken. Raises `SiteSealed` while this replica is being restored."""
    member.check_unsealed()
    made = replace(one, version=member.family.replicas[one.id].version + 1)
    with member.log.db.transaction():
        tell_replica(member.log, made)
        member.set_family(give_back_names(member.family.with_replica(made)))
    return member.family.replicas[one.id]


def set_inbox_policy(member: Member, policy: str) -> None:
    """Have the whole family do this with an INBOX that was born at two sites. Raises `SiteSealed`."""
    last = max(one.inbox_version for one in member.family.replicas.values())
    change_replica(member, replace(member.myself, inbox=policy, inbox_version=last + 1))


def rename_replica(member: Member, one: Replica, name: str) -> Replica:
    """Give a replica another name. Raises `MultisiteError` for a name that is taken or bad, `SiteSealed`."""
    check_replica_name(name)
    if member.family.named(name, but=one.id) is not None:
        raise MultisiteError(f"there is a replica {name!r} in the family already")
    return change_replica(member, replace(one, name=name, wanted=""))


def remove_replica(member: Member, one: Replica, *, force: bool = False) -> None:
    """Take a replica out of the family: nothing is exported to it any more, and it has no say.

    Raises `MultisiteError` for this replica itself, and, without `force`, for the master of any owner: nobody
    would arbitrate what is changed of that owner. Raises `SiteSealed`."""
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


def trust_keys(member: Member, one: Replica, keys: PublicKeys) -> None:
    """Believe from now on, at this server, what is signed with these keys. Raises `MultisiteError` for this
    replica's own keys: `new_keys` changes those."""
    if one.id == member.family.self_id:
        raise MultisiteError(f"{one.name} is this replica itself (multitool keys -new)")
    known = member.family.with_replica(one.with_keys(Succession.begun(keys)))
    member.set_family(replace(known, awaited=known.awaited - {one.id}))


def new_keys(member: Member) -> PublicKeys:
    """Give this replica new keys, or its first. Where nobody in the family had keys the other replicas become
    *awaited*: the first keys that they show are taken. Raises `BadKeys` where the present secret keys are
    lost, `SiteSealed`."""
    member.check_unsealed()
    history, old = member.myself.key_history, member.secret()
    made = keyring.prepare(member.directory)
    if history is None:
        extended = Succession.begun(made.public)
        awaited = {one.id for one in member.family.living() if not one.keys} - {member.log.self_id}
        member.set_family(replace(member.family, awaited=frozenset(awaited)))
    elif old is None:
        raise BadKeys("the secret keys of this replica are lost: see 'Lost keys' in docs/multisite.md")
    else:
        first = member.log.operations.last(member.log.self_id) + 1
        extended = history.extended(member.family.id, member.log.self_id, max(first, 1), old, made.public)
    change_keys(member, extended)
    return made.public


def change_keys(member: Member, history: Succession) -> None:
    """Have these be the keys of this replica, and tell the others, signed with the new keys. Their secret
    half waits in the keyring (`multisite.keyring.prepare`)."""
    signed = member.myself.signed or member.log.operations.last(member.log.self_id) + 1
    myself = replace(member.myself.with_keys(history), signed=signed, version=member.myself.version + 1)
    member.set_family(replace(member.family.with_replica(myself), telling=True))
    member.sign_operations()
    announce(member, member.family)
