"""What tests of replication by packets do with mail at a site."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.packet import (
    Header,
    Messages,
    Operation,
    PacketReader,
    PacketWriter,
    SecretKeys,
    State,
)
from tests.multisite.world import Site

BOB = Owner("user", "bob")


def guid_of(raw: bytes) -> bytes:
    return hashlib.sha1(raw).digest()


def message(subject: object, size: int = 0) -> bytes:
    text = f"Subject: {subject}\r\n\r\n".encode()
    return text + hashlib.shake_256(text).hexdigest(max(size - len(text), 0) // 2).encode()


def create(site: Site, *names: str) -> None:
    for name in names:
        with site.store() as store, store.write(owner_of(name)) as writer:
            writer.create(name)


def append(site: Site, mailbox: str, *messages: bytes) -> list[bytes]:
    """Their GUIDs."""
    with site.store() as store, store.write(owner_of(mailbox)) as writer:
        writer.append(mailbox, [(raw, 5, "") for raw in messages])
    return [guid_of(raw) for raw in messages]


def expunge(site: Site, mailbox: str, *uids: int) -> None:
    with site.store() as store, store.write(owner_of(mailbox)) as writer:
        writer.expunge(mailbox, uids)


def flag(site: Site, mailbox: str, uid: int, *flags: str) -> None:
    with site.store() as store, store.write(owner_of(mailbox)) as writer:
        writer.set_flags(mailbox, [uid], add=flags)


def delete(site: Site, mailbox: str, *, delayed: bool = False) -> None:
    with site.store() as store, store.write(owner_of(mailbox)) as writer:
        writer.delete(mailbox, delayed=delayed)


def rename(site: Site, old: str, new: str) -> None:
    with site.store() as store:
        store.rename(old, new, log=True)


def names(site: Site, user: str = "bob") -> list[str]:
    return list(site.guids(user))


def state(site: Site, mailbox: str) -> MailboxState:
    with site.store() as store, store.read(owner_of(mailbox)) as reader:
        found = reader.mailbox(mailbox)
    assert found is not None, f"{mailbox} is not at {site.name}"
    return found


def records(site: Site, mailbox: str) -> list[Record]:
    with site.store() as store, store.read(owner_of(mailbox)) as reader:
        found = reader.mailbox(mailbox)
        assert found is not None, f"{mailbox} is not at {site.name}"
        return [record for batch in reader.records(found.uniqueid) for record in batch]


def row(site: Site, of: Site | None = None) -> dict[str, int]:
    """The epoch row of a site, or what `site` believes of another, by name."""
    with site.member() as member:
        known = member.log.epochs.row(member.family.find((of or site).name).id)
        return {member.family.name_of(origin): number for origin, number in known.items()}


def operations(site: Site, owner: Owner = BOB) -> list[LogEntry]:
    with site.member() as member:
        member.record()
        return list(member.log.operations.of_owner(owner))


def same_everywhere(sites: Iterable[Site]) -> bool:
    return len({site.dump() for site in sites}) == 1


# -- packets


Item = Messages | Operation | State


def header_of(path: Path) -> Header:
    with PacketReader(path) as packet:
        return packet.header


def items_of(path: Path) -> list[Item]:
    with PacketReader(path) as packet:
        return list(packet.items(path.parent))


def messages_of(paths: Iterable[Path]) -> list[bytes]:
    """GUIDs of all messages in packets, in their order."""
    found: list[bytes] = []
    for path in paths:
        for item in items_of(path):
            if isinstance(item, Messages):
                found += [body.guid for body in item.bodies]
    return found


def rewritten(
    path: Path,
    signing: Site | SecretKeys | None = None,
    *,
    items: Callable[[Iterator[Item]], Iterable[Item]] = iter,
    **header: Any,
) -> Path:
    """The packet with another header, and with what `items` makes of what it holds. A site signs it,
    or any keys do, or nobody."""
    head = replace(header_of(path), **header)
    secret = keys_of(signing) if isinstance(signing, Site) else signing
    with (
        PacketReader(path) as packet,
        PacketWriter(path.with_name(path.name + ".new"), head, signing=secret) as writer,
    ):
        for item in items(packet.items(path.parent)):
            match item:
                case Operation():
                    writer.operation(item)
                case Messages():
                    writer.messages(item.bodies)
                case State():
                    writer.state(item)
        made = writer.close(head)
    return made.replace(path)


def leaving_out(*guids: bytes) -> Callable[[Iterator[Item]], Iterable[Item]]:
    """For `rewritten`: all that is in the packet but these messages."""

    def kept(items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            if isinstance(item, Operation):
                yield item
            elif left := tuple(body for body in item.bodies if body.guid not in guids):
                yield Messages(left)

    return kept


def keys_of(site: Site) -> SecretKeys:
    with site.member() as member:
        secret = member.secret()
    assert secret is not None
    return secret


def say(site: Site, line: str) -> None:
    """One more line in imapd.conf."""
    path = site.directory / "imapd.conf"
    path.write_text(path.read_text() + line + "\n")
