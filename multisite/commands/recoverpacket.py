"""recoverpacket: have exported again what was in a packet that was lost."""

from __future__ import annotations

from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.commands.rows import row_lines

GRAMMAR = Grammar(
    "multitool recoverpacket",
    [
        Option("since", "date-time", "go back to the last export at or before this time (now)"),
        *COMMON_OPTIONS,
    ],
    "replica …",
    "Set the row of a replica in the epoch matrix back to what was believed before an export to it, so that\n"
    "the next export contains all that was in that packet and in later ones. What has arrived nevertheless\n"
    "does no harm.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Set the rows back."""
    options = context.options
    if not options.operands:
        raise UsageError("a replica is needed")
    since = options.text("since")
    try:
        moment = None if since is None else parse_datetime(since)
    except ValueError as error:
        raise UsageError(f"-since: {error}") from None
    well = True
    with context.member() as member:
        epochs = member.log.epochs
        for target in others(member, options.operands):
            export = epochs.recover(target.id, member.log.now() if moment is None else moment)
            if export is None:
                context.complain(f"no export to {target.name} is old enough")
                well = False
                continue
            what = f"that of {when(export.time)} ({export.packet})"
            context.print(f"The next export to {target.name} repeats {what}")
            context.log.info(f"recovered the row of {target.name} from before {export.packet}")
            for line in row_lines(member.family, target.id, epochs.row(target.id)):
                context.print(line)
    return EX_OK if well else EX_FAILURE
