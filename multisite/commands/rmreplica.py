"""rmreplica: take a replica out of the family."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.membership import remove_replica

GRAMMAR = Grammar(
    "multitool rmreplica",
    [Option("force", "", "even if it is the master of users or shared mailboxes"), *COMMON_OPTIONS],
    "replica",
    "Take a replica out of the family: nothing is exported to it any more. The others hear of it in the\n"
    "next packets. What it had changed and sent stays; what it has not sent is lost to the others.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Remove it."""
    options = context.options
    if len(options.operands) != 1:
        raise UsageError("the replica to remove is needed")
    with context.member() as member:
        one = member.family.find(options.operands[0])
        remove_replica(member, one, force="force" in options)
    context.log.info(f"removed the replica {one.name} ({one.id})")
    return EX_OK
