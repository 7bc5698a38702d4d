"""unexpunge: bring expunged messages back, under new UIDs.

Without UIDS, lists what can be brought back."""

from __future__ import annotations

import argparse
import time

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.selection import records_of, select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("uids", metavar="UIDS", nargs="?", help="such as 1:5,9,12:*")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.uids is None:
        return _list(args, context)
    with context.writing(args.mailbox) as (writer, mailbox):
        chosen = select(writer, mailbox, args.uids, expunged=True)
        new = writer.unexpunge(mailbox.name, chosen.uids) if chosen.uids else []
    for uid in new:
        context.print(str(uid))
    status = chosen.status(context, args.mailbox, "expunged message")
    lost = len(chosen.uids) - len(new)
    if lost:
        context.warn(
            f"{lost} of these messages of {args.mailbox} stay expunged: they are back already, or not"
            " stored any more"
        )
    return status or (EX_FAILURE if lost else EX_OK)


def _list(args: argparse.Namespace, context: StoreContext) -> int:
    with context.reading(args.mailbox) as (reader, mailbox):
        for batch in records_of(reader, mailbox, expunged=True):
            stored = reader.has_guids([record.guid for record in batch])
            for record in batch:
                if record.guid in stored:
                    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.last_updated))
                    context.print(f"{record.uid}\t{when}\t{record.size}\t{record.guid.hex()}")
    return 0
