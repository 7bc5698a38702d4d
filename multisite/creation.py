"""Making a family, and making replicas of it by creation packets.

A creation packet carries the family and the whole log with its messages: whoever imports it starts where the
one who made it stands. The new replica makes its own keys and tells the others of them in its first packet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from common.config import Config
from multisite.errors import MultisiteError
from multisite.export import Exported, Place, Wish, export
from multisite.family import FILE, Family, Replica, check_replica_name, new_id
from multisite.importing import Import, NotApplied
from multisite.member import KEYS, Member, directory_of
from multisite.packet import CREATION, Header, PacketReader, SecretKeys
from multisite.replay.members import announce, tell_replica


def create_family(config: Config, family_name: str, name: str, host: str) -> Family:
    """Make this server the first replica, `name`, of a new family. All that its store holds is recorded.

    Raises `MultisiteError` if it belongs to a family already."""
    directory = directory_of(config)
    if (directory / FILE).exists():
        raise MultisiteError(f"this server is a replica of a family already: {directory / FILE}")
    own = new_id()
    myself = Replica(own, check_replica_name(name), host, creator=own, keys=_new_keys(directory), version=1)
    family = Family(str(uuid.uuid4()), check_replica_name(family_name), own, {own: myself})
    family.save(directory)
    with Member.open(config) as member:
        announce(member, family)
        for error in member.capture.everything():
            member.warn(f"not all mail could be recorded: {error}")
    return family


def _new_keys(directory: Path) -> str:
    """Make this server's keys, if it has none; the public halves."""
    path = directory / KEYS
    directory.mkdir(parents=True, exist_ok=True)
    secret = SecretKeys.load(path) if path.exists() else SecretKeys.generate()
    if not path.exists():
        secret.save(path)
    return secret.public.text()


def make_replica(
    member: Member, name: str, host: str, place: Place, wish: Wish, *, storage_class: str = ""
) -> Exported:
    """Add a replica to the family and write its creation packet. Raises `MultisiteError` for a name that
    is taken."""
    check_replica_name(name)
    if member.family.named(name) is not None:
        raise MultisiteError(f"there is a replica {name!r} in the family already")
    made = Replica(new_id(), name, host, creator=member.family.self_id, version=1)
    if storage_class:
        made = replace(made, storage_class=storage_class)
    member.set_family(member.family.with_replica(made))
    with member.log.db.transaction():
        tell_replica(member.log, made)
    return export(member, made, place, replace(wish, kind=CREATION))


def import_replica(
    config: Config,
    packets: Sequence[Path],
    *,
    warn: Callable[[str], None],
    notice: Callable[[str], None],
) -> Family:
    """Make this server the replica for which creation packets were written. Its store has to be empty.

    Raises `MultisiteError` for a server that has mail or a family, `NotApplied` for other packets."""
    directory = directory_of(config)
    ordered = sorted(packets, key=lambda path: _header(path).number)
    if not ordered:
        raise MultisiteError("there is no creation packet")
    header = _header(ordered[0])
    _check_headers([_header(path) for path in ordered])
    target = header.targets[0]
    if not (directory / FILE).exists():
        founder = Replica(header.sender, header.sender_name, creator=header.sender)
        myself = Replica(target.id, target.name, creator=header.sender)
        Family(header.family, header.family_name, target.id, {founder.id: founder, myself.id: myself}).save(
            directory
        )
    with Member.open(config, warn=warn) as member:
        family = member.family
        if family.id != header.family or family.self_id != target.id:
            raise MultisiteError("this server is a replica of a family already")
        if not member.log.epochs.row(family.self_id) and any(True for _ in member.store.owners()):
            raise MultisiteError("this server has mail already: a replica begins empty")
        importing = Import(member, lambda _path: None, notice)
        for path in ordered:
            with PacketReader(path, secret=member.secret()) as packet:
                packet.verify(None)
                importing.apply(packet)
        importing.run([])
        myself = replace(member.myself, keys=_new_keys(directory), version=member.myself.version + 1)
        announce(member, member.family.with_replica(myself))
        return member.family


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
