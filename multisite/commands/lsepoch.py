"""lsepoch: the epoch matrix, as it is believed here, or as siblings say themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands import status
from cyrus_sync.multisite.commands.asking import ask_standing
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.rows import row_lines
from cyrus_sync.multisite.commands.status import STATUS_OPTIONS
from cyrus_sync.multisite.oplog.stuck import Stuck, stuck
from cyrus_sync.multisite.oplog.unanswered import unanswered

GRAMMAR = Grammar(
    "multitool lsepoch",
    [
        Option("act/ual", "", "ask the replicas themselves, over the line"),
        Option(
            "stat/us",
            "",
            "show who is behind and what waits instead (multitool status), with its exit status",
        ),
        *STATUS_OPTIONS,
        *COMMON_OPTIONS,
    ],
    "[replica …]",
    "Show what each replica has: how many operations of each origin. The row of this replica is fact, the\n"
    "others are what exports and packets let one believe.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show all rows, or those of the replicas that are named."""
    if "status" in context.options:
        return status.run(context)
    if given := [option.name for option in STATUS_OPTIONS if option.name in context.options]:
        raise UsageError(f"-{given[0]} goes with -status")
    with context.look_at_log() as (family, log):
        rows = log.epochs.rows()
        waiting = Counter[str]()
        for one in unanswered(log, sealed=bool(family.restoring)):
            waiting[one.master] += one.operations
        stopped = stuck(log)
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
        if replica == family.self_id:
            for line in _stopped(stopped):
                context.print(line)
        if waiting[replica]:
            context.print(
                f"waiting for the answer of {family.name_of(replica)}: {waiting[replica]} operations"
            )
    return EX_OK if well else EX_FAILURE


def _stopped(stopped: Sequence[Stuck]) -> Iterator[str]:
    """What of the operations in this replica's own row has not been carried out here."""
    if messages := sum(one.waiting for one in stopped if one.messages):
        yield f"waiting for messages that have not come: {messages} operations"
    if behind := sum(one.waiting for one in stopped if not one.messages):
        yield f"waiting behind what is set aside: {behind} operations"
    if aside := sum(one.set_aside for one in stopped):
        yield f"set aside: {aside} operations"
