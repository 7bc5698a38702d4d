"""keys: what this replica's keys are, and making new ones."""

from __future__ import annotations

from collections.abc import Iterator

from cyrus_sync.common.errors import EX_OK
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.membership import new_keys

GRAMMAR = Grammar(
    "multitool keys",
    [
        Option("new", "", "make new keys for this replica, or its first, and tell the others of them"),
        *COMMON_OPTIONS,
    ],
    "",
    "Show the fingerprints of the replicas' keys. A person compares them with what the same command says on\n"
    "the other server, over a line that nobody else can change: by voice, for instance.\n"
    "With -new the keys are changed, signed with the old ones. In a family of an older release, in which\n"
    "nobody has keys, run it once at each replica: from then on nothing unsigned is taken.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show all; or make new ones."""
    if "new" in context.options:
        with context.member() as member:
            made = new_keys(member)
            name = member.myself.name
        context.log.info(f"new keys of {name}: {made.fingerprint()}")
    family = context.family
    for line in _lines(family):
        context.print(line)
    return EX_OK


def _lines(family: Family) -> Iterator[str]:
    living = family.living()
    width = max(len(one.name) for one in living)
    for one in living:
        mark = "*" if one.id == family.self_id else " "
        yield f"{mark} {one.name:{width}}  {fingerprint_of(one) or _without(family, one)}"


def fingerprint_of(one: Replica) -> str:
    """For people; "" for a replica without keys."""
    history = one.key_history
    return history.current.fingerprint() if history else ""


def _without(family: Family, one: Replica) -> str:
    if one.id in family.awaited:
        return "no keys yet; the first that it shows are taken"
    return "no keys" + ("" if family.has_keys else " (multitool keys -new)")
