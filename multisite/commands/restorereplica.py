"""restorereplica: after this server was restored from a backup, get back from its siblings what it lacks."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, EX_TEMPFAIL, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.restoring import begin, open_again

GRAMMAR = Grammar(
    "multitool restorereplica",
    [
        Option("force", "", "begin anew, although a restore has been begun"),
        Option("override", "", "end it, although not everybody has answered"),
        *COMMON_OPTIONS,
    ],
    "[replica …]",
    "To be run first of all when this server has been restored from a backup. This replica gets a new\n"
    "incarnation and is sealed: nothing that is changed here is told to the others until all of them, or\n"
    "those that are named, have sent what it had told them since the backup. Ask them with syncreplica\n"
    "-export, and import their answers. Run again, it says whose answer is awaited.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Begin, end, or say how it stands."""
    options = context.options
    if "override" in options and ("force" in options or options.operands):
        raise UsageError("-override stands alone")
    with context.member() as member:
        if "override" in options:
            return _override(context, member)
        if member.sealed and "force" not in options:
            waiting = [one for one in member.family.living() if one.id in member.family.restoring]
            context.print("A restore has been begun; " + _what_to_do(member, waiting))
            return EX_TEMPFAIL
        asked = others(member, options.operands) or member.family.living()
        siblings = begin(member, asked)
        context.log.info(
            f"began a restore, incarnation {member.myself.incarnation},"
            f" asking {', '.join(one.name for one in siblings)}"
        )
        context.print("This replica is sealed; " + _what_to_do(member, siblings))
    return EX_OK


def _what_to_do(member: Member, siblings: list[Replica]) -> str:
    names = " ".join(member.family.selector(one.id) for one in siblings)
    return (
        f"the answers of these replicas are awaited: {names}\n"
        f"Ask them:            syncreplica -export {{-fship | -ship | -out path}} {names}\n"
        "There:               syncreplica -import …, and syncreplica -export … "
        f"{member.family.selector(member.family.self_id)}\n"
        "With their answers:  syncreplica -import …"
    )


def _override(context: Context, member: Member) -> int:
    if not member.sealed:
        raise MultisiteError("no restore has been begun")
    missing = [one.name for one in member.family.living() if one.id in member.family.restoring]
    open_again(member, Import(member, lambda path: None, context.notice).arbitrate_all_left)
    context.warn(f"ended the restore without the answers of {', '.join(missing)}")
    return EX_OK
