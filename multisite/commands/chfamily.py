"""chfamily: what holds for the whole family."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.family import INBOX_POLICIES
from cyrus_sync.multisite.membership import set_inbox_policy

GRAMMAR = Grammar(
    "multitool chfamily",
    [
        Option(
            "inbox", "policy", "merge: an INBOX that was born at two sites becomes one; rename: one of them"
        ),
        *COMMON_OPTIONS,
    ],
    "",
    "Show what holds for the whole family, or change it. The others hear of it in the next packets; what\n"
    "was said last counts. inbox: merge, the default, has the master of a user that was made at two sites\n"
    "take the messages of both INBOXes, and of two folders of one special use, into one. With rename the\n"
    "one that comes in gets a generated name, like any other mailbox (multitool conflicts).",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show or change it."""
    policy = context.options.text("inbox")
    if context.options.operands:
        raise UsageError("no operands are taken")
    if policy is not None:
        if policy not in INBOX_POLICIES:
            raise UsageError(f"-inbox {policy}: it is {' or '.join(INBOX_POLICIES)}")
        with context.member() as member:
            set_inbox_policy(member, policy)
        context.log.info(f"an INBOX that was born at two sites: {policy}")
    context.print(f"inbox: {context.family.inbox_policy}")
    return EX_OK
