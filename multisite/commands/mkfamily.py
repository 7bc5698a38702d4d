"""mkfamily: make this server the first replica of a new family."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.creation import create_family

GRAMMAR = Grammar(
    "multitool mkfamily",
    [
        Option("name", "family", "what the family is called"),
        Option("host", "host", "by which name the other servers reach this one (multisite_host)"),
        *COMMON_OPTIONS,
    ],
    "replica",
    "Make this server the first replica of a new family. All the mail that is here belongs to it; others\n"
    "are made from this one (multitool mkreplica).",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Make the family."""
    options = context.options
    name = options.text("name")
    if name is None or len(options.operands) != 1:
        raise UsageError("-name and the name of this replica are needed")
    replica = options.operands[0]
    family = create_family(context.config, name, replica, options.text("host") or context.site.name)
    context.print(f"{family.selector(family.self_id)} is the first replica of the family {family.id}")
    context.log.info(f"made the family {family.name} ({family.id}) with {replica} as its first replica")
    return EX_OK
