"""rescue: mail out of a packet that cannot be applied."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.rescuing import rescue
from cyrus_sync.multisite.working import bring_up_to_date

GRAMMAR = Grammar(
    "multitool rescue",
    [
        Option("n", "", "only say what would be delivered"),
        Option("force", "", "also of another family, or not signed by its sender: you know where it is from"),
        *COMMON_OPTIONS,
    ],
    "packet …",
    "Deliver the messages of packets that cannot be applied (refused as too old, parts of them lost, their\n"
    "sender removed), if no owner of theirs has them and no packet has told of them. They go into the\n"
    "mailbox that they are of, else into the user's INBOX, and are told with the next export. Nothing else\n"
    "in the packets is carried out, and their files stay. Parts of one packet are named together.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Rescue what is there."""
    if not context.options.operands:
        raise UsageError("a packet is needed")
    with context.member() as member:
        member.check_unsealed()
        bring_up_to_date(member, context.notice)
        whole = _rescue(context, member, [Path(operand) for operand in context.options.operands])
        for error in member.record():
            member.omit(f"not all changes could be recorded: {error}")
    return EX_OK if whole else EX_FAILURE


def _rescue(context: Context, member: Member, paths: list[Path]) -> bool:
    """False if anything was left."""
    options, naming = context.options, Naming(context.config)
    try:
        done = rescue(member, paths, force="force" in options, dry="n" in options)
    except OSError as error:
        raise NotApplied(reason(error, error.filename or paths[0])) from None
    for name, count in sorted(done.delivered.items()):
        line = f"{naming.external(name)}: {count} {'message' if count == 1 else 'messages'}"
        context.print(line)
        context.log.info(f"rescued: {line}")
    for guid, why in sorted(done.left.items()):
        context.complain(f"message {guid.hex()} is left: {why}")
    if done.loose:
        context.complain(f"{done.loose} messages are left: they belong to operations of another part")
    if not (done.delivered or done.left or done.loose):
        context.print(f"nothing that nobody has ({done.known} messages are known)")
    return not (done.left or done.loose)
