"""giveup: go on without messages that nobody has any more."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.giving_up import Lost, lost
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.working import Work, bring_up_to_date

GRAMMAR = Grammar(
    "multitool giveup",
    [
        Option("n", "", "only say which messages are lacking, and who has not answered yet"),
        Option("force", "", "also those of which some replica has not said that it lacks them, too"),
        *COMMON_OPTIONS,
    ],
    "[user | shared:name …]",
    "Go on without messages that all replicas lack. Operations on their users wait at every site, because\n"
    "nobody has the messages any more. Each packet asks for what is lacking, and that is the answer, too.\n"
    "What is given up here is told with the next packets, and everybody goes on without it.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Give up what all have answered for."""
    options, naming = context.options, Naming(context.config)
    wanted = {naming.owner(operand) for operand in options.operands}
    with context.member() as member:
        member.check_unsealed()
        bring_up_to_date(member, context.notice)
        found = [one for one in lost(member) if not wanted or one.owner in wanted]
        gone = [one for one in found if not one.silent or "force" in options]
        for one in found:
            _say(context, member, naming, one, gone=one in gone and "n" not in options)
        if gone and "n" not in options:
            Work(member, context.notice).give_up(one.guid for one in gone)
    if not found:
        context.print("no message is lacking")
    return EX_OK if len(gone) == len(found) else EX_FAILURE


def _say(context: Context, member: Member, naming: Naming, one: Lost, *, gone: bool) -> None:
    silent = ", ".join(member.family.name_of(replica) for replica in one.silent)
    what = f"message {one.guid.hex()} of {naming.owner_name(one.owner)}"
    if gone:
        context.print(f"{what} is given up")
        context.log.info(f"{what} is given up" + (f"; not answered by {silent}" if silent else ""))
    elif silent:
        context.print(f"{what} is lacking; not answered yet by {silent}")
    else:
        context.print(f"{what} is lacking everywhere")
