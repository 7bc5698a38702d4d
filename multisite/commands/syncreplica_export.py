"""syncreplica -export: an update packet with all that other replicas are believed to lack."""

from __future__ import annotations

import time

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.commands.sending import SENDING_OPTIONS, Outlet, check_sending, outlet_of
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.export import export, packet_prefix
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.member import Member

HEADLINE = "Generating synchronization packet"

GRAMMAR = Grammar(
    "syncreplica",
    [
        Option("exp/ort", "", "write packets"),
        Option("all", "", "for all other replicas of the family"),
        SENDING_OPTIONS[0],
        Option("lim/it", "n", "with -maxsize: at most n packets; the rest waits for the next export"),
        *SENDING_OPTIONS[1:],
        Option("compress", "", "accepted: packets are always compressed"),
        *COMMON_OPTIONS,
    ],
    "replica[@family] …",
    "Write what the replicas are believed to lack into update packets, and believe it delivered.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Export to each replica that is named."""
    check_sending(context.options)
    everybody = "all" in context.options
    if everybody and context.options.operands:
        raise UsageError("-all exports to everybody; or the replicas are named")
    if not (everybody or context.options.operands):
        raise UsageError("the replica to export to is needed")
    outlet, options = outlet_of(context, HEADLINE)
    well = True
    with context.member() as member:
        if everybody:
            targets = [one for one in member.family.living() if one.id != member.family.self_id]
        else:
            targets = others(member, context.options.operands)
            for target in targets:
                outlet.check(target.name, target.host)
        outlet.resume(member)
        for target in targets:
            try:
                if everybody:
                    outlet.check(target.name, target.host)
                _export(context, member, target, (outlet, options))
            except MultisiteError as error:
                if not everybody:
                    raise
                context.complain(str(error))
                well = False
    return EX_OK if outlet.deliver() and well and not member.omissions else EX_FAILURE


def _export(context: Context, member: Member, target: Replica, how: tuple[Outlet, ExportOptions]) -> None:
    outlet, options = how
    prefix = packet_prefix("sync", member.myself.name, time.time())
    done = outlet.send(
        prefix,
        (target.host, target.storage_class),
        lambda place: export(member, target, place, options),
    )
    selector = member.family.selector(target.id)
    if not done.paths:
        context.print(f"Nothing to export: {selector} is believed to have everything.")
        return
    context.log.info(
        f"exported {done.operations} operations and {done.messages} messages to {selector}:"
        f" {' '.join(map(str, done.paths))}"
    )
    if options.limit and len(done.paths) > options.limit:
        context.warn(
            f"-limit {options.limit} was exceeded: {len(done.paths)} packets were written for {selector},"
            " since one change goes with all its messages, and messages that were asked for all go"
        )
    if not done.complete:
        context.warn(f"-limit was reached; the rest for {selector} waits for the next export")
