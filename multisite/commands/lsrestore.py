"""lsrestore: whether this replica is being restored from a backup, and whose answers are awaited."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, EX_TEMPFAIL
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.family import Family

GRAMMAR = Grammar(
    "multitool lsrestore",
    [*COMMON_OPTIONS],
    "",
    "Show whether this replica is being restored from a backup (restorereplica), and whose answers are\n"
    "awaited; then the exit status is 75. Nothing is changed.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Say how it stands."""
    family = context.family
    if family.restoring:
        context.print(what_to_do(family))
        return EX_TEMPFAIL
    last = family.myself.incarnation
    began = f"; the last one began {when(last)}" if last else ""
    context.print(f"This replica is open, no restore is under way{began}.")
    return EX_OK


def awaited(family: Family) -> list[str]:
    """The selectors of the replicas whose answers a restore awaits, without those that have been removed
    since."""
    return [family.selector(one.id) for one in family.living() if one.id in family.restoring]


def what_to_do(family: Family) -> str:
    """What the administrator of a sealed replica does next, in lines."""
    names = " ".join(awaited(family))
    if not names:
        return (
            "This replica is sealed, and nobody whose answer is awaited is left in the family.\n"
            "End it:              multitool restorereplica -override"
        )
    return (
        f"This replica is sealed; the answers of these replicas are awaited: {names}\n"
        f"Ask them:            syncreplica -export {{-fship | -ship | -out path}} {names}\n"
        "There:               syncreplica -import …, and syncreplica -export … "
        f"{family.selector(family.self_id)}\n"
        "With their answers:  syncreplica -import …"
    )
