"""lsmaster: whose word counts for whom."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming

GRAMMAR = Grammar(
    "multitool lsmaster",
    [*COMMON_OPTIONS],
    "[user | shared:NAME …]",
    "Show which replica is the master of each user and each shared top-level mailbox: the one whose word\n"
    "counts where changes meet. That is the first who changed it, until it is handed over (chmaster).",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show all, or those that are named."""
    naming = Naming(context.config)
    well = True
    with context.look() as view:
        log, masters = view.log, view.log.masters
        owners = [naming.owner(word) for word in context.options.operands] or sorted(
            owner for replica in view.family.replicas for owner in masters.of_replica(replica)
        )
        for owner in owners:
            master = next(iter(log.homes(owner).values()), None)
            if master is None:
                context.complain(f"{naming.owner_name(owner)} has no master: nobody has changed anything")
                well = False
            else:
                context.print(f"{naming.owner_name(owner)}  {view.family.name_of(master.replica)}")
    return EX_OK if well else EX_FAILURE
