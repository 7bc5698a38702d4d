"""chepoch: correct what is believed of another replica."""

from __future__ import annotations

from collections.abc import Mapping

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.agreeing import agreed
from cyrus_sync.multisite.commands.asking import ask_standing
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.commands.rows import parse_entries, row_lines
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.working import bring_up_to_date

GRAMMAR = Grammar(
    "multitool chepoch",
    [
        Option("force", "", "do not ask before each change"),
        Option("act/ual", "", "ask the replicas themselves, over the line"),
        Option("raise_only", "", "with -actual: change only what is believed too low"),
        *COMMON_OPTIONS,
    ],
    "replica [origin=number …]   or   -actual replica …",
    "Correct the row of another replica in the epoch matrix: what it is believed to have, and so what the\n"
    "next export leaves out. Too low does no harm. Without numbers the row is shown.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Change the rows."""
    options = context.options
    if not options.operands:
        raise UsageError("a replica is needed")
    if "raise_only" in options and "actual" not in options:
        raise UsageError("-raise_only goes with -actual")
    with context.member() as member:
        bring_up_to_date(member, context.notice)
        if "actual" in options:
            found = [_actual(context, member, one) for one in others(member, options.operands)]
            return EX_OK if all(found) else EX_FAILURE
        (target,) = others(member, options.operands[:1])
        _change(context, member, target, parse_entries(member.family, options.operands[1:]))
        for line in row_lines(member.family, target.id, member.log.epochs.row(target.id)):
            context.print(line)
    return EX_OK


def _actual(context: Context, member: Member, target: Replica) -> bool:
    """Take over what the sibling says; whether it answered."""
    try:
        standing = ask_standing(context.site, member.family, target)
    except CyrusSyncError as error:
        context.complain(str(error))
        return False
    believed = member.log.epochs.row(target.id)
    wanted = {origin: standing.row.get(origin, 0) for origin in {*standing.row, *believed}}
    if standing.restoring:
        context.warn(f"{target.name} is being restored from a backup: its packets say what it has of its own")
        wanted.pop(target.id, None)
    if "raise_only" in context.options:
        wanted = {origin: number for origin, number in wanted.items() if number > believed.get(origin, 0)}
    _change(context, member, target, wanted)
    return True


def _change(context: Context, member: Member, target: Replica, wanted: Mapping[str, int]) -> None:
    family, epochs = member.family, member.log.epochs
    row = epochs.row(target.id)
    _warn_of_lost_operations(context, member, target, wanted)
    for origin, number in sorted(wanted.items(), key=lambda pair: family.name_of(pair[0])):
        before = row.get(origin, 0)
        if number == before:
            continue
        what = f'operations of {family.name_of(origin)} in the row "{target.name}": {before} -> {number}'
        if "force" in context.options or agreed(f"Change {what}?"):
            row[origin] = number
            epochs.put(target.id, row)
            context.log.info(f"changed {what}")


def _warn_of_lost_operations(
    context: Context, member: Member, target: Replica, wanted: Mapping[str, int]
) -> None:
    me = member.family.self_id
    mine, there = member.log.epochs.row(me).get(me, 0), wanted.get(me, 0)
    if there > mine:
        context.warn(
            f"{target.name} has {there} operations of this replica, which has only {mine} itself: it was"
            " restored from a backup, and multitool restorereplica is needed"
        )
