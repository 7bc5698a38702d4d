"""setaside: operations that packets brought and that cannot be carried out; and dropping them."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.importing import drop_set_aside
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_text

GRAMMAR = Grammar(
    "multitool setaside",
    [
        Option("drop", "", "do not carry out those that are named, ever; what waits behind them goes on"),
        *COMMON_OPTIONS,
    ],
    "[operation …]",
    "Show the operations that are set aside, or those that are named, as number@replica: from whom they\n"
    "are, on whom, and why they are not carried out. They are tried again with each import. Later\n"
    "operations on the same owner wait; everybody else goes on.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show, or drop."""
    options = context.options
    if "drop" not in options:
        with context.look() as view:
            found = list(view.log.operations.set_aside())
            shown = _chosen(context, view.family, found) if options.operands else found
            for entry in shown:
                context.print(_line(view.family, entry))
        return EX_FAILURE if shown or options.operands else EX_OK
    if not options.operands:
        raise UsageError("which operations to drop is needed: number@replica")
    with context.member() as member:
        found = list(member.log.operations.set_aside())
        chosen = _chosen(context, member.family, found)
        for entry in chosen:
            context.log.info(f"dropped: {_line(member.family, entry)}")
            drop_set_aside(member, entry, context.notice)
    return EX_OK if len(chosen) == len(set(options.operands)) else EX_FAILURE


def _chosen(context: Context, family: Family, found: list[LogEntry]) -> list[LogEntry]:
    """Those that the operands name, each once; one that is not set aside is said."""
    by_name = {_name(family, entry): entry for entry in found}
    operands = dict.fromkeys(context.options.operands)
    for unknown in operands:
        if unknown not in by_name:
            context.complain(f"no operation {unknown} is set aside")
    return [by_name[operand] for operand in operands if operand in by_name]


def _name(family: Family, entry: LogEntry) -> str:
    return f"{entry.id}@{family.name_of(entry.origin)}"


def _line(family: Family, entry: LogEntry) -> str:
    return (
        f"{_name(family, entry)}  {entry.verb} of {owner_text(entry.owner)[:200]}, said {when(entry.time)}:"
        f" {entry.reason}"
    )
