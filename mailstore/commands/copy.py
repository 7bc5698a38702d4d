"""copy: copy or move messages to another mailbox of the same owner."""

from __future__ import annotations

import argparse

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import owner_of
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.selection import select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("uids", metavar="UIDS", help="such as 1:5,9,12:*")
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--move", action="store_true", help="and expunge them here")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    target = context.internal(args.target)
    if owner_of(target) != owner_of(context.internal(args.mailbox)):
        raise UsageError(f"copy: {args.mailbox} and {args.target} must belong to the same owner")
    with context.writing(args.mailbox) as (writer, mailbox):
        context.require(writer, target)
        chosen = select(writer, mailbox, args.uids)
        new = writer.copy(mailbox.name, chosen.uids, target, move=args.move) if chosen.uids else []
    context.print(counted(len(new), "message"))
    return chosen.status(context, args.mailbox)
