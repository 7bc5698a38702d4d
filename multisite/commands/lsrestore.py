"""lsrestore: whether this replica is being restored from a backup, and whose answers are awaited."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.errors import EX_OK, EX_TEMPFAIL
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.lsreplica import when
from cyrus_sync.multisite.contacts import read_contacts
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.member import directory_of

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
        context.print(what_to_do(family, unheard_of(directory_of(context.config), family)))
        return EX_TEMPFAIL
    last = family.myself.incarnation
    began = f"; the last one began {when(last)}" if last else ""
    context.print(f"This replica is open, no restore is under way{began}.")
    return EX_OK


def awaited(family: Family) -> list[str]:
    """The selectors of the replicas whose answers a restore awaits, without those that have been removed
    since."""
    return [family.selector(one.id) for one in family.living() if one.id in family.restoring]


def unheard_of(directory: Path, family: Family) -> list[str]:
    """The names of those awaited of whom no packet has ever come here, by what is noted in `directory`."""
    contacts = read_contacts(directory)
    return [one.name for one in family.living() if one.id in family.restoring and one.id not in contacts]


def in_a_ring(family: Family, unheard: list[str]) -> str:
    """What is said where answers of those cannot come straight, in lines; "" where all can."""
    if not unheard:
        return ""
    here, names = family.myself.name, ", ".join(unheard)
    return (
        f"\nNo packet has ever come here from {names}. Where packets only go on, from site to site in a\n"
        "ring, the question is passed on, and the answers come by way of others: this restore ends when\n"
        "packets have gone round. Where a link on the way carries none, they go both ways once:\n"
        f"here:                syncreplica -export -out PATH {' '.join(unheard)}\n"
        f"at {names}, with that:  syncreplica -import PATH, and syncreplica -export -out PATH2 {here}\n"
        "here:                syncreplica -import PATH2"
    )


def what_to_do(family: Family, unheard: list[str]) -> str:
    """What the administrator of a sealed replica does next, in lines. `unheard`: as `unheard_of` gives
    them."""
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
    ) + in_a_ring(family, unheard)
