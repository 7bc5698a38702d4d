"""flag: set or remove flags and keywords of messages.

UIDS is a list such as 1:5,9,12:* (* is the highest UID). Example:
mailstore flag user/alice 1:* --add '\\Seen'"""

from __future__ import annotations

import argparse

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import UsageError
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.flags import check_flags
from cyrus_sync.mailstore.selection import select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("uids", metavar="UIDS")
    parser.add_argument(
        "-a",
        "--add",
        metavar="FLAG",
        action="append",
        default=[],
        help="\\Seen, \\Answered, \\Flagged, \\Deleted, \\Draft or a keyword (may be repeated)",
    )
    parser.add_argument("-r", "--remove", metavar="FLAG", action="append", default=[], help="the same")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if not args.add and not args.remove:
        raise UsageError("flag: give --add or --remove")
    add, remove = check_flags(args.add), check_flags(args.remove)
    with context.writing(args.mailbox) as (writer, mailbox):
        chosen = select(writer, mailbox, args.uids)
        if chosen.uids:
            writer.set_flags(mailbox.name, chosen.uids, add=add, remove=remove)
    context.print(counted(len(chosen.uids), "message"))
    return chosen.status(context, args.mailbox)
