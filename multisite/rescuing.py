"""Mail out of packets that cannot be applied: what nobody in the family has is delivered here.

A packet may be refused for good: its sender was restored since, or removed, or parts of it are lost.
Messages in it that no operation of the log has brought, and that no owner of theirs has, would go with it.
They are put into the mailbox that they are of, else into the user's INBOX, like new mail, and told with the
next export.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import Record
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.multisite.admission import judged
from cyrus_sync.multisite.errors import BadOperation, NotApplied
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand, parse
from cyrus_sync.multisite.oplog.held import Held, not_stored
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_from
from cyrus_sync.multisite.packet import Header, Messages, Operation, PacketReader, State
from cyrus_sync.multisite.replay.batch_writer import LOCK_SECONDS
from cyrus_sync.multisite.replay.packet_messages import PacketMessages
from cyrus_sync.multisite.snapshot import MAIL
from cyrus_sync.multisite.vetting import read


@dataclass(frozen=True, slots=True)
class Found:
    """A message that nobody has: its record in the packet, whose it is, and the mailbox there."""

    owner: Owner
    name: str
    uniqueid: str
    record: Record


@dataclass(slots=True)
class Rescued:
    """What became of the messages, by internal mailbox name: how many were delivered, and which (GUID) could
    not be, with the reason. `known` are those that somebody has, `loose` those whose operation is in another
    part."""

    delivered: dict[str, int] = field(default_factory=dict)
    left: dict[bytes, str] = field(default_factory=dict)
    known: int = 0
    loose: int = 0


def rescue(member: Member, paths: Iterable[Path], *, force: bool = False, dry: bool = False) -> Rescued:
    """Deliver what nobody has. `dry`: only say what would be. `force`: also out of a packet that is not of
    this family, or not signed by whom it should be. Parts of one logical packet belong together.

    Raises `NotApplied`, `PacketError` for a packet that is damaged or cannot be opened; `StoreError`."""
    done, seen = Rescued(), set[bytes]()
    with closing(PacketMessages(member.staging, Held(member.log.db))) as messages:
        for path in sorted(paths, key=_number):
            with PacketReader(path, secrets=member.secrets()) as packet:
                _check(member, packet, force=force)
                for found in _found(member, packet, messages, seen, done):
                    _deliver(member, messages, found, done, dry=dry)
        done.loose = len(set(messages.guids()) - seen)
    return done


def _number(path: Path) -> int:
    with PacketReader(path) as packet:
        return packet.header.number


def _check(member: Member, packet: PacketReader, *, force: bool) -> None:
    header: Header = packet.header
    keys = None
    try:
        if header.family != member.family.id:
            raise NotApplied(f"it belongs to the family {header.family_name!r} ({header.family})")
        keys = judged(member, header).keys
    except NotApplied:
        if not force:
            raise
    packet.verify(None if force else keys)


def _found(
    member: Member, packet: PacketReader, messages: PacketMessages, seen: set[bytes], done: Rescued
) -> Iterator[Found]:
    """The messages of the packet's operations that nobody has, each once an owner. `seen`: all that were
    looked at."""
    given: set[tuple[Owner, bytes]] = set()
    for item in packet.items(member.staging):
        if isinstance(item, Messages):
            messages.add(item.bodies)
            continue
        said = _said(item)
        if said is None:
            continue
        owner, state = owner_from(item.owner), said.update.state
        for record in said.records:
            seen.add(record.guid)
            if record.expunged or (owner, record.guid) in given or not messages.is_good(record.guid):
                continue
            given.add((owner, record.guid))
            if _is_known(member, owner, record.guid):
                done.known += 1
            else:
                yield Found(owner, state.name, state.uniqueid, record)


def _said(item: Operation | State) -> ApplyCommand | None:
    if isinstance(item, State):
        told = parse(item.data) if item.kind == MAIL else None
        return told if told is not None and told.name == "MAILBOX" else None
    entry = LogEntry(item.origin, item.id, item.time, owner_from(item.owner), item.line, item.attributes)
    try:
        said = read(entry).command
    except BadOperation:
        return None
    return said if said is not None and said.name == "MAILBOX" else None


def _is_known(member: Member, owner: Owner, guid: bytes) -> bool:
    log = member.log
    if owner in log.operations.introducers(guid):
        return True
    return not not_stored(member.store, log.places(owner), [guid])


def _deliver(member: Member, messages: PacketMessages, found: Found, done: Rescued, *, dry: bool) -> None:
    place = _place(member, found)
    if place is None:
        done.left[found.record.guid] = f"{found.owner} has neither {found.name} nor an INBOX here"
        return
    owner, name, uniqueid = place
    try:
        if not dry:
            with member.store.write(owner, timeout=LOCK_SECONDS) as writer:
                writer.adopt(uniqueid, found.record, messages.get(found.record.guid), keep_uid=False)
    except CyrusSyncError as error:
        done.left[found.record.guid] = str(error)
        return
    done.delivered[name] = done.delivered.get(name, 0) + 1


def _place(member: Member, found: Found) -> tuple[Owner, str, str] | None:
    """Owner, name and uniqueid of the mailbox into which a message goes; None if there is none."""
    now_of = member.store.owner_of_uniqueid(found.uniqueid) or found.owner
    with member.store.read(now_of) as reader:
        state = reader.mailbox_by_id(found.uniqueid) or reader.mailbox(found.name)
        if state is None and now_of.kind == "user":
            state = reader.mailbox(inbox_of(now_of.name))
    if state is None or state.intermediate or state.tombstone:
        return None
    return now_of, state.name, state.uniqueid
