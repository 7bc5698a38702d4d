"""lspacket: what packets are, and for whom."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.common.printable import printable
from cyrus_sync.multisite import keyring
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.incoming import waiting_in
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.contents import Contents, Share, contents_of
from cyrus_sync.multisite.errors import NoFamily
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.packet import CREATION, Header, PacketError, PacketReader, SecretKeys, Target
from cyrus_sync.multisite.packet.errors import PacketSealed

GRAMMAR = Grammar(
    "multitool lspacket",
    [
        Option("l/ong", "", "also what operations it has, ids and incarnations; owners, mailboxes and sizes"),
        Option("s/hort", "", "only the paths"),
        *COMMON_OPTIONS,
    ],
    "[packet-file | directory …]",
    "Show packets: those that are named, or all in the bays. A target with an asterisk can import it now.",
    EXIT_STATUS,
)


class Here(NamedTuple):
    """This replica, as far as it matters for whether it can import."""

    family: Family
    row: Row
    secrets: list[SecretKeys]


def run(context: Context) -> int:
    """Show each packet that is named, or all in the bays."""
    options = context.options
    if "long" in options and "short" in options:
        raise UsageError("-long and -short exclude one another")
    here = _here(context)
    named = [Path(operand) for operand in options.operands]
    if not named:
        bays = context.site.all_bays()
        named = [d for bay in bays for d in (bay.incoming, bay.outgoing) if d.is_dir()]
    empty = [path for path in map(Path, options.operands) if not waiting_in([path])]
    for path in empty:
        context.complain(f"there are no packets in {path}")
    well = not empty
    for number, path in enumerate(waiting_in(named)):
        try:
            with PacketReader(path) as packet:
                header = packet.header
        except (PacketError, OSError) as error:
            context.complain(f"{path}: {reason(error, path)}")
            well = False
            continue
        if "short" in options:
            context.print(printable(str(path)))
            continue
        if number:
            context.print()
        for line in _lines(path, header, here):
            context.print(line)
        for line in _long(header) if "long" in options else ():
            context.print(line)
        if "long" in options:
            well = _contents(context, path, here) and well
    return EX_OK if well else EX_FAILURE


def _here(context: Context) -> Here | None:
    """None for a server that is no replica: it may have packets all the same."""
    try:
        with context.look_at_log() as (family, log):
            secrets = keyring.all_of(directory_of(context.config), family.myself.keys)
            return Here(family, log.epochs.row(family.self_id), secrets)
    except NoFamily:
        return None


def _lines(path: Path, header: Header, here: Here | None) -> Iterator[str]:
    yield f"Packet is: {printable(str(path))}"
    yield f"Packet type: {'Replica Creation' if header.kind == CREATION else 'Update'}"
    yield f"VOB family is: {header.family_name} ({header.family})"
    yield f"Comment supplied at packet creation is: {printable(header.comment)}"
    yield "Packet intended for the following targets:"
    for target in header.targets:
        yield f"    {target.name}{' *' if _can_import(header, target, here) else ''}"
    yield f"The packet sequence number is {header.number}{' (the last)' if header.last else ''}"


def _can_import(header: Header, target: Target, here: Here | None) -> bool:
    if header.kind == CREATION:
        return here is None
    if here is None or header.family != here.family.id or target.id != here.family.self_id:
        return False
    if target.incarnation < here.family.myself.incarnation:
        return False
    return all(there.start <= here.row.get(origin, 0) + 1 for origin, there in header.ranges.items())


def _contents(context: Context, path: Path, here: Here | None) -> bool:
    """Print whom a packet is about. False if that cannot be read."""
    secrets = here.secrets if here is not None else []
    try:
        with PacketReader(path, secrets=secrets) as packet:
            found = contents_of(packet, Path(tempfile.gettempdir()))
    except PacketSealed:
        context.print("What is in it cannot be read here: it is encrypted for its targets")
        return True
    except (PacketError, OSError) as error:
        context.complain(f"{path}: {reason(error, path)}")
        return False
    naming = Naming(context.config)
    context.print(f"Contents: {_share(found)}")
    for owner, share in sorted(found.owners.items()):
        context.print(f"    {printable(owner)}: {_share(share)}")
        for name, part in sorted(found.mailboxes.get(owner, {}).items()):
            context.print(f"        {printable(naming.external(name))}: {_share(part)}")
    for fault in found.faults:
        context.complain(f"{path}: {fault}")
    return not found.faults


def _share(share: Share | Contents) -> str:
    operations = f"{share.operations} operation{'s' if share.operations != 1 else ''}"
    messages = f"{share.messages} message{'s' if share.messages != 1 else ''} of {share.octets} octets"
    return f"{operations}, {messages}" if share.messages else operations


def _long(header: Header) -> Iterator[str]:
    def name(origin: str) -> str:
        return f"{header.names.get(origin, '?')} ({origin})"

    yield f"From: {header.sender_name} ({header.sender}), incarnation {header.sender_incarnation}"
    yield f"Made: {when(header.created)}, logical packet {header.logical}"
    yield from (f"Target: {one.name} ({one.id}), incarnation {one.incarnation}" for one in header.targets)
    for origin, there in sorted(header.ranges.items()):
        if there.start > 1:
            yield f"Builds on {there.start - 1} operations of {name(origin)}"
        if there.end >= there.start:
            yield f"Operations {there.start} to {there.end} of {name(origin)}"
    for origin, number in sorted(header.row.items()):
        yield f"The sender has {number} of {name(origin)}"
    if header.wanted:
        yield f"The sender asks for {len(header.wanted)} messages"
    if header.sealed:
        yield "Encrypted"
