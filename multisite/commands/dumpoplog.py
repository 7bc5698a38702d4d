"""dumpoplog: the operations log, operation by operation, in its order."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.common.printable import printable
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.history import CHOOSING, chosen, summary
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.oplog.operations import owner_text

GRAMMAR = Grammar(
    "multitool dumpoplog",
    [
        Option("l/ong", "", "also attributes, messages, and the command itself as packets carry it"),
        *CHOOSING,
        *COMMON_OPTIONS,
    ],
    "[user | shared:NAME | mailbox | family: …]",
    "Show the operations of the log, or some of them, in the order in which this replica learned of them:\n"
    "number@replica, the time, the kind, the owner, what about, and what it waits for.",
    EXIT_STATUS,
)

STATES = ("", "waits", "begun", "set aside")


def run(context: Context) -> int:
    """Show them."""
    naming = Naming(context.config)
    with context.look_at_log() as (family, log):
        for entry in chosen(context, family, log, newest_first=False):
            state = STATES[log.operations.state(entry.seq)]
            behind = f"  [{state}{': ' + entry.reason if entry.reason else ''}]" if state else ""
            context.print(
                f"{entry.id}@{family.name_of(entry.origin)}  {when(entry.time)}  {entry.verb}"
                f"  {printable(owner_text(entry.owner))}  {summary(naming, family, entry)}{behind}"
            )
            if "long" in context.options:
                for key, value in sorted(entry.attributes.items()):
                    context.print(f"    {key}: {printable(value)}")
                for guid in entry.guids:
                    context.print(f"    message {guid.hex()}")
                context.print(f"    {printable(entry.line.decode('utf-8', 'backslashreplace').rstrip())}")
    return EX_OK
