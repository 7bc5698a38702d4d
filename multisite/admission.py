"""May a packet be applied here? What its header says against what this replica knows and has."""

from __future__ import annotations

from dataclasses import dataclass

from cyrus_sync.multisite.errors import Forked, NotApplied
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.packet import Header
from cyrus_sync.multisite.trust import Verdict, judge


@dataclass(frozen=True, slots=True)
class Need:
    """The packet builds on operation `required` of `origin`, and this replica has those up to `held`."""

    origin: str
    required: int
    held: int


class OldSender(NotApplied):
    """The packet was made before its sender was restored from a backup."""


class Gap(NotApplied):
    """The packet depends on changes that have not come yet."""

    def __init__(self, needs: tuple[Need, ...]) -> None:
        self.needs = needs
        super().__init__("depends on changes not yet received")


def check(member: Member, header: Header) -> None:
    """`NotApplied` for a packet that is not for this replica as it is now; `OldSender` for one of a sender as
    it no longer is."""
    family = member.family
    if header.family != family.id:
        raise NotApplied(
            f"it belongs to the family {header.family_name!r} ({header.family}), not to"
            f" {family.name!r} ({family.id})"
        )
    mine = next((one for one in header.targets if one.id == family.self_id), None)
    if mine is None:
        names = ", ".join(one.name for one in header.targets)
        raise NotApplied(f"it is for {names}, not for {family.myself.name}")
    if mine.incarnation < family.myself.incarnation and not _answers(member, header):
        raise NotApplied(
            f"Replica incarnation is old: the packet was made for {mine.incarnation},"
            f" this replica was restored at {family.myself.incarnation}"
        )
    sender = family.replicas.get(header.sender)
    if sender is not None and sender.removed:
        raise NotApplied(f"{sender.name} was removed from the family (multitool rmreplica)")
    if sender is not None and header.sender_incarnation < sender.incarnation:
        raise OldSender(
            f"Replica incarnation is old: {sender.name} was restored at {sender.incarnation} since"
        )


def _answers(member: Member, header: Header) -> bool:
    """Whether a packet for an earlier incarnation is taken. While this replica is being restored it is: the
    packet may carry just what the restored store lacks."""
    return member.sealed and header.sender != member.family.self_id


def check_own(member: Member, header: Header) -> None:
    """Refuse a packet of somebody who knows more of this replica than it knows itself. It was restored from a
    backup, and takes its operations back only after ``restorereplica``; or the packet is forged. Raises
    `Forked`."""
    if member.sealed:
        return
    mine = member.log.self_id
    there, last = header.ranges.get(mine), member.log.operations.last(mine)
    known = max(header.row.get(mine, 0), there.end if there is not None else 0)
    if known > last:
        raise Forked(
            f"{header.sender_name} knows of operation {known} of this replica, whose log ends at {last}:"
            " this server was restored from a backup (multitool restorereplica), or the packet is forged",
            ours=True,
        )


def check_heads(member: Member, header: Header) -> None:
    """`Forked` for a packet of somebody who has another operation of some origin under the same number."""
    log = member.log
    for origin, link in header.heads.items():
        number = header.row.get(origin, 0)
        if (origin == log.self_id and member.sealed) or number <= forked_up_to(member, header, origin):
            continue
        if 0 < number <= log.operations.last(origin) and not log.forks.has(origin, number, link):
            raise fork_of(member, origin, number)


def forked_up_to(member: Member, header: Header, origin: str) -> int:
    """Up to which number the operations of an origin may differ from site to site."""
    known = member.family.replicas.get(origin)
    return max(known.forked if known else 0, header.forked.get(origin, 0))


def fork_of(member: Member, origin: str, number: int) -> Forked:
    """What to say of a packet in which operation `number` of `origin` is another one than here."""
    if origin == member.family.self_id:
        return Forked(
            f"it has another operation {number} of this replica than the log here: this server was restored"
            " from a backup and went on (multitool restorereplica)",
            ours=True,
        )
    name = member.family.name_of(origin)
    return Forked(
        f"it has another operation {number} of {name} than the log here: {name} was restored from a backup"
        " and went on; to be applied after multitool restorereplica there",
        ours=False,
    )


def judged(member: Member, header: Header) -> Verdict:
    """With whose keys the packet has to be signed. `UnknownSender`, `NotApplied`."""
    demanded = member.config.switch("multisite_require_signature")
    return judge(member.family, header, unsigned=not demanded)


def gap(member: Member, header: Header) -> Gap | None:
    """What has to come before the packet can be applied; None if nothing has to."""
    needs = lacking(header, member.log.epochs.row(member.log.self_id))
    return Gap(needs) if needs else None


def lacking(header: Header, row: Row) -> tuple[Need, ...]:
    """What a replica with these epochs lacks of what the packet builds on."""
    return tuple(
        Need(origin, wanted.start - 1, row.get(origin, 0))
        for origin, wanted in sorted(header.ranges.items())
        if wanted.start > row.get(origin, 0) + 1
    )
