"""syncreplica -status: what `multitool status` says."""

from __future__ import annotations

from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands import status
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, Context

GRAMMAR = Grammar(
    "syncreplica",
    [Option("stat/us", "", "show who is behind and what waits"), *status.STATUS_OPTIONS, *COMMON_OPTIONS],
    "",
    status.STATUS_ABOUT,
    status.EXIT_STATUS,
)


def run(context: Context) -> int:
    """As `multitool status`."""
    return status.run(context)
