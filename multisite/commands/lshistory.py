"""lshistory: what was changed, by whom and when, the newest first."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.history import CHOOSING, chosen, summary
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.commands.naming import Naming

GRAMMAR = Grammar(
    "multitool lshistory",
    [*CHOOSING, *COMMON_OPTIONS],
    "[user | shared:NAME | mailbox | family: …]",
    "List what was changed, the newest first: the time, the replica where it was made, the kind, and what\n"
    "about. user/alice/Work and mailbox:NAME are mailboxes, whatever they were called; family: is the\n"
    "family itself.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """List them."""
    naming = Naming(context.config)
    with context.look_at_log() as (family, log):
        for entry in chosen(context, family, log, newest_first=True):
            said = summary(naming, family, entry)
            context.print(f"{when(entry.time)}  {family.name_of(entry.origin):12}  {entry.verb:9}  {said}")
    return EX_OK
