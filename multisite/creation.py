"""Making a family, and making replicas of it by creation packets.

A creation packet carries a snapshot: the family, the mail, and what the log still holds
(`multisite.snapshot`). So the new replica starts where the maker of the packet stands. The packet brings the
keys of the new replica's birth, which the family knows already. The new replica makes keys of its own at
once, signed with those, and tells the others in its first packet.

A replica that has been away for too long is made anew in the same way (``-replace``), and stays who it is:
its id, name and keys remain. What it has told and its maker has not heard would be lost, so that is asked for
first. Where its log cannot tell how far it had come, it is sealed and asks the others, as after any restore.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite import keyring
from cyrus_sync.multisite.admission import judged
from cyrus_sync.multisite.cutting import Exported, ExportOptions, Place
from cyrus_sync.multisite.errors import MultisiteError, NotApplied, WentBack
from cyrus_sync.multisite.export import export
from cyrus_sync.multisite.family import FILE, Family, Replica, check_replica_name, new_id
from cyrus_sync.multisite.founding import Founding, empty, is_founding
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.member import Member, directory_of
from cyrus_sync.multisite.membership import change_keys
from cyrus_sync.multisite.opening import is_spool
from cyrus_sync.multisite.oplog.operations import FAMILY
from cyrus_sync.multisite.packet import (
    CREATION,
    BadKeys,
    Header,
    PacketForged,
    PacketReader,
    PublicKeys,
    SecretKeys,
)
from cyrus_sync.multisite.packet.invitation import Invitation
from cyrus_sync.multisite.packet.succession import Succession
from cyrus_sync.multisite.replay.family_operations import announce, tell_replica
from cyrus_sync.multisite.restoring import ANSWER
from cyrus_sync.multisite.vetting import SPECIAL
from cyrus_sync.multisite.working import Work, bring_up_to_date


def create_family(config: Config, family_name: str, name: str, host: str) -> Family:
    """Make this server the first replica, `name`, of a new family, and record all that its store holds.
    `host` is the name by which the other servers reach it.

    Raises `MultisiteError` if it belongs to a family already, or for a bad name."""
    directory = directory_of(config)
    if (directory / FILE).exists():
        raise MultisiteError(f"this server is a replica of a family already: {directory / FILE}")
    own = new_id()
    myself = Replica(own, check_replica_name(name), host, creator=own, version=1, signed=1)
    myself = myself.with_keys(Succession.begun(keyring.prepare(directory).public))
    family = Family(
        str(uuid.uuid4()), check_replica_name(family_name), own, {own: myself}, spool=is_spool(config)
    )
    family.save(directory)
    with Member.open(config) as member:
        announce(member, family)
        for error in member.capture.everything():
            member.warn(f"not all mail could be recorded: {error}")
    return family


def make_replica(
    member: Member,
    name: str,
    host: str,
    place: Place,
    options: ExportOptions,
    *,
    storage_class: str = "",
    passphrase: str | None = None,
) -> Exported:
    """Add a replica to the family and write its creation packet, under a `passphrase` if one is given. Raises
    `MultisiteError` for a name that is taken, `BadKeys` where this replica has no keys to sign it with."""
    check_replica_name(name)
    if member.family.named(name) is not None:
        raise MultisiteError(f"there is a replica {name!r} in the family already")
    history = member.myself.key_history
    if history is None:
        raise BadKeys("this replica has no keys to sign the packet with: multitool keys -new makes them")
    birth = SecretKeys.generate()
    invitation = Invitation(birth, history.current)
    text = invitation.sealed(passphrase) if passphrase is not None else invitation.text()
    made = Replica(new_id(), name, host, creator=member.family.self_id, version=1, signed=1)
    made = made.with_keys(Succession.begun(birth.public))
    if storage_class:
        made = replace(made, storage_class=storage_class)
    member.set_family(member.family.with_replica(made))
    with member.log.db.transaction():
        tell_replica(member.log, made)
    return export(member, made, place, replace(options, kind=CREATION, invitation=text))


def snapshot_for(member: Member, replica: Replica, place: Place, options: ExportOptions) -> Exported:
    """Write a snapshot for a replica that is there already, and has to be made anew. Raises `BadKeys` where
    this replica has no keys to sign it with, `MultisiteError` for this replica itself."""
    if replica.id == member.log.self_id:
        raise MultisiteError(f"{replica.name} is this replica itself")
    if member.myself.key_history is None:
        raise BadKeys("this replica has no keys to sign the packet with: multitool keys -new makes them")
    return export(member, replica, place, replace(options, kind=CREATION))


@dataclass(frozen=True, slots=True)
class Pin:
    """How the maker of a creation packet proves who it is: by a `passphrase` that both ends have, or to a
    person who compares the fingerprint of the maker's keys. `is_right` asks that person."""

    passphrase: str | None = None
    is_right: Callable[[PublicKeys], bool] = lambda _keys: False


def import_replica(
    config: Config,
    packets: Sequence[Path],
    pin: Pin,
    *,
    warn: Callable[[str], None],
    notice: Callable[[str], None],
) -> Family:
    """Make this server the replica for which creation packets were written. Its store has to be empty.

    Raises `MultisiteError` for a server that has mail or belongs to a family; `NotApplied` for packets that
    are no creation packets or not complete, and for a maker whose fingerprint is not right; `PacketForged`
    for a wrong signature or passphrase; `PacketError`, `StoreError`."""
    directory = directory_of(config)
    ordered, header = _in_order(packets)
    birth, maker = _pinned(header, pin)
    target = header.targets[0]
    if not (directory / FILE).exists():
        founder = Replica(header.sender, header.sender_name, creator=header.sender).with_keys(maker)
        myself = Replica(target.id, target.name, creator=header.sender, signed=1)
        myself = myself.with_keys(Succession.begun(birth.public))
        replicas = {founder.id: founder, myself.id: myself}
        Family(header.family, header.family_name, target.id, replicas, spool=is_spool(config)).save(directory)
    with Member.open(config, warn=warn) as member:
        family = member.family
        if family.id != header.family or family.self_id != target.id:
            raise MultisiteError("this server is a replica of a family already")
        begun = member.log.epochs.row(family.self_id) or is_founding(member)
        if not begun and any(True for _ in member.store.owners()):
            raise MultisiteError("this server has mail already: a replica begins empty")
        importing = Import(member, lambda _path: None, notice)
        if header.snapshot:
            if member.is_being_made:
                _take_over(member, ordered, maker.current, notice)
        else:
            # The whole log, as earlier releases wrote it.
            for path in ordered:
                with PacketReader(path) as packet:
                    packet.verify(maker.current)
                    importing.apply(packet, goes_on=path != ordered[-1])
        _have_own_keys(member, birth)
        importing.run([])
        return member.family


def replace_replica(
    config: Config,
    packets: Sequence[Path],
    *,
    force: bool = False,
    warn: Callable[[str], None],
    notice: Callable[[str], None],
) -> Family:
    """Make this replica anew from a snapshot that was made for it. All mail here is replaced by that of the
    snapshot. `force`: even where that loses what this replica has told, and its maker has not heard. The
    replica is sealed afterwards where it cannot be known what else it had told; `Family.restoring` says so.

    Raises `NotApplied` for packets that are not for this replica, not complete, or too old; what
    `import_replica` raises."""
    ordered, header = _in_order(packets)
    with Member.open(config, warn=warn, went_back=True) as member:
        family = member.family
        if not header.snapshot or header.family != family.id or header.targets[0].id != family.self_id:
            raise NotApplied(f"it is no snapshot for {family.selector(family.self_id)}")
        if member.secret() is None:
            raise BadKeys(
                f"the keys of this replica are lost, so it cannot be the same again: multitool rmreplica"
                f" {family.myself.name} at {header.sender_name}, and mkreplica for a new one"
            )
        verdict = judged(member, header)
        unsure = not is_founding(member) and _is_unsure(member, header, force=force)
        if unsure:
            incarnation = max(member.log.now(), family.myself.incarnation + 1)
            asked = {one.id: incarnation for one in family.living() if one.id != family.self_id}
            myself = replace(family.myself, incarnation=incarnation)
            member.set_family(replace(family.with_replica(myself), restoring=asked))
        _take_over(member, ordered, verdict.keys, notice, anew=True)
        if member.generation is not None:
            member.generation.renew()
        for one in family.living():
            # Each of them is to hear what this replica has now, even if there is nothing else to tell.
            if one.id != family.self_id:
                member.log.request(one.id, [ANSWER])
        if not member.sealed:  # it may be from a run that was interrupted
            Work(member, notice).after_restore(member.log.forks.told_anew() - {FAMILY})
            member.log.forks.end()
        Import(member, lambda _path: None, notice).run([])
        return member.family


def _is_unsure(member: Member, header: Header, *, force: bool) -> bool:
    """Whether this replica may have told more than its log and the snapshot know. Raises `NotApplied` where
    it has told more than the snapshot knows, or has mail that it cannot tell of, unless that is meant."""
    log = member.log
    if _went_back(member):
        if force:
            return True
        raise NotApplied(
            "this replica was restored from a backup, and cannot tell yet what mail it has got since: that"
            " would be lost. End the restore first (multitool lsrestore); or -force, to lose it"
        )
    before = member.omissions
    bring_up_to_date(member, member.warn)
    if member.omissions > before and not force:
        raise NotApplied("what could not be recorded would be lost: mend that first; or -force, to lose it")
    last, known = log.operations.last(log.self_id), header.row.get(log.self_id, 0)
    if last > known and not force:
        raise NotApplied(
            f"{last - known} operations of this replica are not known to its maker {header.sender_name}, and"
            f" would be lost: syncreplica -export {header.sender_name}, import there, and have a new snapshot"
            " made; or -force, to lose them"
        )
    return last > known


def _told_apart(member: Member) -> set[Owner]:
    """The owners whose master is here, and of whom the maker of the snapshot has what this replica has not
    answered yet: it stands in the log as if all had taken it for the master's word."""
    return {entry.owner for entry in member.log.operations.unsettled() if entry.verb not in SPECIAL}


def _went_back(member: Member) -> bool:
    """Whether this replica is being restored from a backup, or should be."""
    try:
        if member.generation is not None:
            member.generation.check()
    except WentBack:
        return True
    return member.sealed


def _take_over(
    member: Member,
    ordered: Sequence[Path],
    maker: PublicKeys | None,
    notice: Callable[[str], None],
    *,
    anew: bool = False,
) -> None:
    """Take over a snapshot, all parts of which are there. `anew`: in place of all that is here."""
    for path in ordered:
        with PacketReader(path) as packet:
            packet.verify(maker)
    founding = Founding(member, notice)
    for path in ordered:
        with PacketReader(path) as packet:
            if path == ordered[0]:
                founding.begin(packet.header)
                if anew:
                    empty(member)
            founding.part(packet)
            header = packet.header
    founding.end(header, _told_apart(member) if anew and not member.sealed else ())


def _pinned(header: Header, pin: Pin) -> tuple[SecretKeys, Succession]:
    """The keys of this replica's birth, and the proved keys of the packet's maker."""
    if not header.keys or not header.invitation:
        raise NotApplied("it was made by a release that did not sign creation packets: make it anew")
    maker = Succession.parse(header.keys)
    invitation = Invitation.parse(header.invitation, pin.passphrase)
    if invitation.maker is not None:
        if invitation.maker != maker.current:
            raise PacketForged("its maker is not the one with whom the passphrase was agreed")
    elif not pin.is_right(maker.current):
        raise NotApplied(
            f"the keys of {header.sender_name} have to be compared first: the packet shows"
            f" {maker.current.fingerprint()}. If multitool keys says the same there, import it with"
            " -fingerprint and these digits"
        )
    return invitation.birth, maker


def _have_own_keys(member: Member, birth: SecretKeys) -> None:
    """Give this replica keys of its own, and tell the others."""
    history = member.myself.key_history
    if history is not None and history.current != birth.public and member.secret() is not None:
        return  # an import that was interrupted has made them
    history = Succession.begun(birth.public)
    made = keyring.prepare(member.directory)
    first = member.log.operations.last(member.log.self_id) + 1
    extended = history.extended(member.family.id, member.log.self_id, first, birth, made.public)
    change_keys(member, extended)


def _in_order(packets: Sequence[Path]) -> tuple[list[Path], Header]:
    """The parts of one creation packet by number, and the header of the first. Raises `MultisiteError` where
    there are none, `NotApplied` where they are not its parts, each once."""
    parts = sorted(((_header(path), path) for path in packets), key=lambda part: part[0].number)
    if not parts:
        raise MultisiteError("there is no creation packet")
    _check_headers([header for header, _ in parts])
    return [path for _, path in parts], parts[0][0]


def _header(path: Path) -> Header:
    with PacketReader(path) as packet:
        return packet.header


def _check_headers(headers: Sequence[Header]) -> None:
    if any(header.kind != CREATION for header in headers):
        raise NotApplied("it is no creation packet (syncreplica -import)")
    if len({header.logical for header in headers}) != 1:
        raise NotApplied("the packets do not belong together")
    numbers = [header.number for header in headers]
    if numbers != list(range(1, len(headers) + 1)) or not headers[-1].last:
        raise NotApplied("not all parts of the creation packet are here")
