"""undelete: bring back a mailbox that was removed at once, as long as expire has not been there.

Without NUMBER, lists what can be brought back: number, name, when, messages, uniqueid. (A mailbox below
DELETED. is brought back with mailstore rename.)"""

from __future__ import annotations

import argparse
import time

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import number
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="or shared:NAME")
    parser.add_argument("number", metavar="NUMBER", type=number, nargs="?")
    parser.add_argument("name", metavar="NAME", nargs="?", help="another name for it (user/alice/Found)")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    owner: Owner = context.owner(args.user)
    care = context.care()
    if not care.is_stored(owner):
        raise BadInput(f"nothing is stored of {args.user}")
    removed = {one.id: one for one in care.removed(owner)}
    if args.number is None:
        for one in removed.values():
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.deleted_at))
            name = context.external(one.state.name)
            context.print(f"{one.id}\t{name}\t{when}\t{one.messages}\t{one.state.uniqueid}")
        return 0
    if args.number not in removed:
        raise UsageError(f"undelete: {args.user} has no removed mailbox {args.number}")
    name = context.new_mailbox(args.name) if args.name else removed[args.number].state.name
    care.undelete(owner, args.number, name)
    context.print(context.external(name))
    return 0
