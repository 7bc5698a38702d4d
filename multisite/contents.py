"""What is in a packet, counted: owners, mailboxes, operations, messages. Nothing of it is applied."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.model import MessageBody
from cyrus_sync.multisite.errors import BadOperation
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_from
from cyrus_sync.multisite.packet import Messages, Operation, PacketReader, State
from cyrus_sync.multisite.snapshot import MAIL
from cyrus_sync.multisite.vetting import Said, read


@dataclass(slots=True)
class Share:
    """What is about one owner, or one mailbox. `octets`: bytes of the messages."""

    operations: int = 0
    messages: int = 0
    octets: int = 0


@dataclass(slots=True)
class Contents:
    """All of a packet. Owners are texts of the log (``user:bob``), mailboxes internal names."""

    operations: int = 0
    messages: int = 0
    octets: int = 0
    owners: dict[str, Share] = field(default_factory=dict)
    mailboxes: dict[str, dict[str, Share]] = field(default_factory=dict)
    """Mailboxes by owner."""
    new: int = 0
    """Operations that the replica has not which looks."""
    faults: list[str] = field(default_factory=list)
    """What makes no sense, or is not what it says."""


def contents_of(packet: PacketReader, spool: Path, row: dict[str, int] | None = None) -> Contents:
    """Read it to its end; large messages go through a file without a name in `spool`. `row`: what the replica
    has that looks. Raises `PacketError`, and OSError where the disk of `spool` is full."""
    found = Contents()
    brought: dict[bytes, int] = {}
    for item in packet.items(spool):
        if isinstance(item, Messages):
            for body in item.bodies:
                found.messages += 1
                found.octets += body.size
                brought[body.guid] = body.size
                if _digest(body) != body.guid:
                    found.faults.append(f"the message {body.guid.hex()} is not what its GUID says")
        elif isinstance(item, State):
            if item.kind == MAIL:
                _share_out(found, item.owner, Said(parse(item.data)), brought)
        else:
            _count(found, item, brought)
            found.new += item.id > (row or {}).get(item.origin, 0)
    return found


def _count(found: Contents, operation: Operation, brought: dict[bytes, int]) -> None:
    found.operations += 1
    entry = LogEntry(
        operation.origin,
        operation.id,
        operation.time,
        owner_from(operation.owner),
        operation.line,
        operation.attributes,
    )
    try:
        said = read(entry)
    except BadOperation as error:
        found.owners.setdefault(operation.owner, Share()).operations += 1
        found.faults.append(f"operation {operation.id} of {operation.origin} makes no sense: {error}")
        return
    _share_out(found, operation.owner, said, brought)


def _share_out(found: Contents, owner: str, said: Said, brought: dict[bytes, int]) -> None:
    """Count what is said of an owner."""
    share = found.owners.setdefault(owner, Share())
    share.operations += 1
    guids = [guid for guid in said.command.messages if guid in brought] if said.command else []
    shares = [share]
    if name := mailbox_of(said):
        shares.append(found.mailboxes.setdefault(owner, {}).setdefault(name, Share()))
        shares[1].operations += 1
    for one in shares:
        one.messages += len(guids)
        one.octets += sum(brought[guid] for guid in guids)
    for guid in guids:
        del brought[guid]


def mailbox_of(said: Said) -> str:
    """The internal name of the mailbox that an operation is about; "" for none."""
    if said.command is None:
        return ""
    match said.command.name:
        case "MAILBOX":
            return said.command.update.state.name
        case "RENAME":
            return str(said.command.argument.new)
        case "UNMAILBOX" | "EXPUNGE":
            argument = said.command.argument
            return str(getattr(argument, "mailbox", None) or getattr(argument, "name", ""))
        case _:
            return ""


def _digest(body: MessageBody) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)
    for piece in [body.data] if isinstance(body.data, bytes) else body.data:
        digest.update(piece)
    return digest.digest()
