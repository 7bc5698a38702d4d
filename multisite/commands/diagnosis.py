"""What keeps packets from being applied, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.multisite.admission import Gap, lacking
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.epochs import merged
from cyrus_sync.multisite.packet import CREATION, Header, PacketError, PacketReader


def say_refused(context: Context, member: Member, refused: Mapping[Path, CyrusSyncError]) -> bool:
    """Say of each packet why it was not applied; True if there is none."""
    for path, error in refused.items():
        context.complain(f"{path} was not applied: {error}")
        for line in needs_of(member, path, error):
            context.complain(line)
        context.log.info(f"{path} was not applied: {error}")
    return not refused


def needs_of(member: Member, path: Path, error: CyrusSyncError) -> list[str]:
    """For a packet that depends on others: a line of each replica whose operations are lacking."""
    if not isinstance(error, Gap):
        return []
    try:
        with PacketReader(path) as packet:
            header = packet.header
    except (PacketError, OSError):
        return []
    lines = []
    for need in error.needs:
        name = _name(member, header.names, need.origin)
        lines.append(f"  operations of {name}: required {need.required}, held {need.held}")
    return [*lines, *_why(member, header)]


def _why(member: Member, header: Header) -> Iterator[str]:
    """Why a packet came that does not fit, and what helps if nothing else comes."""
    sender, here = header.sender_name, member.myself.name
    mine = member.log.epochs.row(member.log.self_id)
    gone = [origin for origin, number in header.trimmed.items() if mine.get(origin, 0) < number]
    if gone and lacking(header, mine):
        named = ", ".join(sorted(_name(member, header.names, origin) for origin in gone))
        yield f"  {sender} has trimmed them (of {named}): {here} was away for too long, and is made anew"
        yield f"  here:     syncreplica -export {sender}"
        yield f"  {sender}: syncreplica -import …, and multitool mkreplica -export -replace -out PATH {here}"
        yield "  here:     multitool mkreplica -import -replace PATH"
        return
    told = bool(member.log.epochs.exports(header.sender))
    unheard = "" if told else f"; it cannot know better, for no packets go from {here} to {sender}"
    yield f"  {sender} believes that {here} has them{unheard}"
    yield f"  if they are not under way, at {sender}: multitool recoverpacket {here}"


def _name(member: Member, names: Mapping[str, str], origin: str) -> str:
    return member.family.name_of(origin) if origin in member.family.replicas else names.get(origin, origin)


def diagnose(context: Context, member: Member, paths: Iterable[Path]) -> bool:
    """Say what is missing before all these packets can be applied; True if nothing is."""
    importing = Import(member, lambda path: None, context.notice)
    good: dict[Path, Header] = {}
    troubles: dict[Path, CyrusSyncError] = {}
    for path in paths:
        try:
            with PacketReader(path) as packet:
                if packet.header.kind == CREATION:
                    continue
                packet.verify(None)
                importing.needs(path)  # raises for one that is not for us
                good[path] = packet.header
        except (PacketError, NotApplied) as error:
            troubles[path] = error
        except OSError as error:
            troubles[path] = NotApplied(reason(error, path))
    mine = member.log.epochs.row(member.family.self_id)
    while fitting := [path for path, header in good.items() if not lacking(header, mine)]:
        for path in fitting:
            mine = merged(mine, {origin: there.end for origin, there in good.pop(path).ranges.items()})
            context.print(f"{path} can be applied")
    troubles |= {path: Gap(lacking(header, mine)) for path, header in good.items()}
    for path, trouble in troubles.items():
        context.print(f"{path} cannot be applied: {trouble}")
        for line in needs_of(member, path, trouble):
            context.print(line)
    return not troubles
