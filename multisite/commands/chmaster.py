"""chmaster: hand users and shared mailboxes over to another master."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.mastership import hand_over, take_over
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.working import bring_up_to_date

GRAMMAR = Grammar(
    "multitool chmaster",
    [
        Option("force", "", "although this replica is not the master, which is lost and will not come back"),
        Option("all", "", "everybody whose master is here; with -force: all whose master was removed"),
        *COMMON_OPTIONS,
    ],
    "replica {user | shared:NAME … | -all}",
    "Make a replica the master of users and shared mailboxes: its word counts where changes meet. It hears\n"
    "of it in the next packet. Nothing is lost if others change the same mail meanwhile.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """BatchWriter over each that is named."""
    options = context.options
    if not options.operands or ("all" in options) == bool(options.operands[1:]):
        raise UsageError("a replica, and either users or -all are needed")
    naming, well = Naming(context.config), True
    with context.member() as member:
        member.check_unsealed()
        bring_up_to_date(member, context.notice)
        to = member.family.find(options.operands[0])
        owners = [naming.owner(word) for word in options.operands[1:]] or _all(context, member)
        for owner in owners:
            try:
                _change(context, member, owner, to)
            except CyrusSyncError as error:
                context.complain(str(error))
                well = False
    return EX_OK if well else EX_FAILURE


def _change(context: Context, member: Member, owner: Owner, to: Replica) -> None:
    if "force" in context.options:
        take_over(member, owner, to, context.notice)
    else:
        hand_over(member, owner, to)
    context.log.info(f"made {to.name} the master of {owner}")


def _all(context: Context, member: Member) -> list[Owner]:
    masters, family = member.log.masters, member.family
    if "force" not in context.options:
        return masters.of_replica(family.self_id)
    return [owner for one in family.replicas.values() if one.removed for owner in masters.of_replica(one.id)]
