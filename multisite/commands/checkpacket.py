"""checkpacket: whether packets are whole, genuine and applicable. Nothing is applied."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.common.printable import printable
from cyrus_sync.multisite.admission import Gap, check, check_heads, check_own, judged, lacking
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.diagnosis import needs_of
from cyrus_sync.multisite.commands.incoming import waiting_in
from cyrus_sync.multisite.contents import Contents, contents_of
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.epochs import Row, merged
from cyrus_sync.multisite.packet import CREATION, Header, PacketError, PacketReader

GRAMMAR = Grammar(
    "multitool checkpacket",
    [*COMMON_OPTIONS],
    "packet-file | directory …",
    "Say of each packet whether it can be applied here: its hashes, the signature of its sender, every\n"
    "operation and message in it, and whether all that it builds on is here, or in those that are named\n"
    "beside it. Nothing is applied, and no packet is removed.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Check each."""
    if not context.options.operands:
        raise UsageError("packets, or directories with packets, are needed")
    paths = waiting_in(Path(operand).absolute() for operand in context.options.operands)
    if not paths:
        context.complain("there are no packets")
        return EX_FAILURE
    well = True
    with context.member() as member:
        row = member.log.epochs.row(member.family.self_id)
        for path in sorted(paths, key=_order):
            fits, row = _check(context, member, path, row)
            well = well and fits
    return EX_OK if well else EX_FAILURE


def _order(path: Path) -> tuple[int, int, str]:
    try:
        with PacketReader(path) as packet:
            return packet.header.created, packet.header.number, str(path)
    except (PacketError, OSError):
        return 0, 0, str(path)


def _check(context: Context, member: Member, path: Path, row: Row) -> tuple[bool, Row]:
    """Whether a packet can be applied where `row` is what is here; and what is here then."""
    shown = printable(str(path))
    try:
        with PacketReader(path, secrets=member.secrets()) as packet:
            header = packet.header
            found = _look(member, packet, row)
    except (CyrusSyncError, OSError) as error:
        said = str(error) if isinstance(error, CyrusSyncError) else reason(error, path)
        context.print(f"{shown} cannot be applied: {said}")
        for line in needs_of(member, path, error) if isinstance(error, CyrusSyncError) else ():
            context.print(line)
        return False, row
    if found.faults:
        context.print(f"{shown} is whole and genuine, and not all of it makes sense:")
        for fault in found.faults:
            context.print(f"  {printable(fault)}")
        return False, row
    context.print(f"{shown} {'is whole' if header.kind == CREATION else 'can be applied'}: {counted(found)}")
    return True, merged(row, {origin: there.end for origin, there in header.ranges.items()})


def _look(member: Member, packet: PacketReader, row: Row) -> Contents:
    """What is in a packet that is good. Raises why it is not."""
    header: Header = packet.header
    if header.kind == CREATION:
        packet.verify(None)
        return contents_of(packet, Path(tempfile.gettempdir()))
    check(member, header)
    packet.verify(judged(member, header).keys)
    check_own(member, header)
    check_heads(member, header)
    if needs := lacking(header, row):
        raise Gap(needs)
    return contents_of(packet, Path(tempfile.gettempdir()), row)


def counted(found: Contents) -> str:
    """How much is in a packet."""
    known = found.operations - found.new
    here = f", {known} of which are here already" if known else ""
    operations = f"{found.operations} operations{here}"
    return f"{operations}, {found.messages} messages of {found.octets} octets"
