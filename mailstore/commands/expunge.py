"""expunge: remove messages from a mailbox.

They stay in the store, and can be had back with unexpunge, until mailstore expire removes them for
good."""

from __future__ import annotations

import argparse

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.selection import select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("uids", metavar="UIDS", nargs="?", help="such as 1:5,9,12:*")
    parser.add_argument("--deleted", action="store_true", help="only those with the flag \\Deleted")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.uids is None and not args.deleted:
        raise UsageError("expunge: give UIDS or --deleted")
    with context.writing(args.mailbox) as (writer, mailbox):
        flag = "\\Deleted" if args.deleted else ""
        chosen = select(writer, mailbox, args.uids or "1:*", flag=flag)
        if chosen.uids:
            writer.expunge(mailbox.name, chosen.uids)
    context.print(counted(len(chosen.uids), "message"))
    return EX_OK if args.uids is None else chosen.status(context, args.mailbox)
