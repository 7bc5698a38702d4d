"""restorereplica: after this server was restored from a backup, get back from its siblings what it lacks."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.agreeing import agreed
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.commands.lsrestore import awaited, unheard_of, what_to_do
from cyrus_sync.multisite.errors import MultisiteError, WentBack
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.restoring import begin, open_again
from cyrus_sync.multisite.working import Work

GRAMMAR = Grammar(
    "multitool restorereplica",
    [
        Option("force", "", "do not ask"),
        Option("override", "", "end a restore, although not everybody has answered; or go on as it is"),
        *COMMON_OPTIONS,
    ],
    "[replica …]",
    "To be run first of all when this server has been restored from a backup. This replica gets a new\n"
    "incarnation and is sealed: nothing that is changed here is told to the others until all of them, or\n"
    "those that are named, have sent what it had told them since the backup. Ask them with syncreplica\n"
    "-export, and import their answers; the last import opens this replica again and says so. multitool\n"
    "lsrestore shows whose answer is awaited. If a restore is under way already, it begins anew. Whoever\n"
    "went on before this loses nothing: what this replica and the others have said meanwhile is merged.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Begin a restore, or end it."""
    options = context.options
    if "override" in options and options.operands:
        raise UsageError("-override ends the restore for all replicas: none can be named")
    with context.member(went_back=True) as member:
        if "override" in options:
            return _override(context, member)
        return _begin(context, member)


def _begin(context: Context, member: Member) -> int:
    asked = others(member, context.options.operands) or member.family.living()
    siblings = [one for one in asked if one.id != member.family.self_id]
    names = ", ".join(one.name for one in siblings)
    question = (
        f"This replica would be sealed, under a new incarnation, until these have answered: {names}.\n"
        "Was this server restored from a backup?"
    )
    if member.sealed:
        missing = ", ".join(awaited(member.family)) or "nobody"
        question = (
            f"A restore is under way already, and awaits {missing}. It would begin anew with {names}.\n"
            "Was this server restored from a backup once more?"
        )
    if siblings and not _may(context, question):
        return EX_FAILURE
    begin(member, siblings)
    context.log.info(f"began a restore, incarnation {member.myself.incarnation}, asking {names}")
    context.print(what_to_do(member.family, unheard_of(member.directory, member.family)))
    return EX_OK


def _override(context: Context, member: Member) -> int:
    if not member.sealed:
        return _go_on_as_it_is(context, member)
    missing = ", ".join(awaited(member.family)) or "nobody"
    if not _may(context, f"What only these have would not be known here: {missing}.\nEnd the restore?"):
        return EX_FAILURE
    open_again(member, Work(member, context.notice).after_restore)
    context.warn(f"ended the restore without the answers of {missing}: this replica is open again")
    return EX_OK


def _go_on_as_it_is(context: Context, member: Member) -> int:
    """Somebody who is sure that nothing was restored takes log and store as they are."""
    assert member.generation is not None
    try:
        member.generation.check()
    except WentBack as error:
        question = f"{error}.\nGo on with log and store as they are? What was lost with a backup stays lost."
        if not _may(context, question):
            return EX_FAILURE
        member.generation.renew()
        context.warn("log and store are taken as they are")
        return EX_OK
    raise MultisiteError("no restore is under way")


def _may(context: Context, question: str) -> bool:
    if "force" in context.options or agreed(question):
        return True
    context.complain("nothing was done (-force does not ask; multitool lsrestore shows how it stands)")
    return False
