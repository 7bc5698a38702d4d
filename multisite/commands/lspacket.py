"""lspacket: what packets are, and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.common.printable import printable
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.incoming import waiting_in
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.errors import NoFamily
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.packet import CREATION, Header, PacketError, PacketReader, Target

GRAMMAR = Grammar(
    "multitool lspacket",
    [
        Option("l/ong", "", "also what operations it has, ids and incarnations"),
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
    return EX_OK if well else EX_FAILURE


def _here(context: Context) -> Here | None:
    """None for a server that is no replica: it may have packets all the same."""
    try:
        with context.look() as view:
            return Here(view.family, view.log.epochs.row(view.family.self_id))
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
