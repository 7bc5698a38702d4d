"""merge: make one mailbox of two that want one name."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.errors import MultisiteError, NotMaster
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.working import Work, bring_up_to_date

GRAMMAR = Grammar(
    "multitool merge",
    [*COMMON_OPTIONS],
    "mailbox …",
    "Take the messages of a mailbox with a generated name into the one that has the name that both want,\n"
    "and delete the other one. Either name is taken; with the wanted one all that want it are merged. It is\n"
    "said at the user's master. A message that is in both, with one date, is there once, with all its flags.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Merge them."""
    if not context.options.operands:
        raise UsageError("a mailbox is needed")
    naming = Naming(context.config)
    with context.member() as member:
        member.check_unsealed()
        bring_up_to_date(member, context.notice)
        work = Work(member, context.notice)
        for typed in context.options.operands:
            name = naming.internal(typed)
            things = [one for one in member.log.objects.in_conflict() if name in (one.wanted, one.local)]
            if not things:
                raise MultisiteError(f"{typed} is in no conflict (multitool conflicts)")
            _check_master(member, typed, name)
            if not work.merge(things):
                raise MultisiteError(f"{typed}: the two are not of one user and one kind, and stay two")
            context.log.info(f"merged {', '.join(one.local for one in things)} into {things[0].wanted}")
            context.print(f"merged into {naming.external(things[0].wanted)}")
    return EX_OK


def _check_master(member: Member, typed: str, name: str) -> None:
    master = member.log.masters.of(owner_of(name))
    if master is None or master.replica != member.family.self_id:
        where = member.family.name_of(master.replica) if master else "nobody"
        raise NotMaster(f"{typed} is merged at the master of its user, {where}")
