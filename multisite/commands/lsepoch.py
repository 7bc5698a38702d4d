"""lsepoch: the epoch matrix, as it is believed here, or as siblings say themselves."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.asking import ask_standing
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.rows import row_lines

GRAMMAR = Grammar(
    "multitool lsepoch",
    [Option("act/ual", "", "ask the replicas themselves, over the line"), *COMMON_OPTIONS],
    "[replica …]",
    "Show what each replica has: how many operations of each origin. The row of this replica is fact, the\n"
    "others are what exports and packets let one believe.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show all rows, or those of the replicas that are named."""
    with context.look() as view:
        family = view.family
        rows = view.log.epochs.rows()
    named, well = context.named(family)
    chosen = [one.id for one in named]
    if not context.options.operands:
        rest = {*rows, *(one.id for one in family.living())} - {family.self_id}
        chosen = [family.self_id, *sorted(rest, key=family.name_of)]
    for replica in chosen:
        row = rows.get(replica, {})
        known = family.replicas.get(replica)
        if "actual" in context.options and replica != family.self_id:
            if known is None or known.removed:
                continue
            try:
                row = dict(ask_standing(context.site, family, known).row)
            except CyrusSyncError as error:
                context.complain(str(error))
                well = False
                continue
        for line in row_lines(family, replica, row):
            context.print(line)
    return EX_OK if well else EX_FAILURE
