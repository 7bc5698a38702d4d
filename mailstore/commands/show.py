"""show: print a message as it is stored, or what the index says of it.

An expunged message can be shown as long as it is stored."""

from __future__ import annotations

import argparse
import time

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.numbers import number
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchMessage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("uid", metavar="UID", type=number)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-i", "--index", action="store_true", help="the index's record instead of the message")
    what.add_argument("-H", "--header", action="store_true", help="the header only")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    with context.reading(args.mailbox) as (reader, mailbox):
        record = find(reader, mailbox, args.uid)
        if record is None:
            raise NoSuchMessage(f"there is no message {args.uid} in {args.mailbox}")
        if args.index:
            for line in describe(record):
                context.print(line)
            return 0
        body = reader.body(record.guid)
        if body is None:
            raise NoSuchMessage(f"message {args.uid} is not stored any more (GUID {record.guid.hex()})")
        pieces = [body.data] if isinstance(body.data, bytes) else list(body.data)
    data = b"".join(pieces)
    if args.header:
        data = data.partition(b"\r\n\r\n")[0] + b"\r\n"
    context.write_bytes(data)
    return 0


def find(reader: MailReader, mailbox: MailboxState, uid: int) -> Record | None:
    """The record of that UID, expunged or not."""
    for batch in reader.records(mailbox.uniqueid, above_uid=uid - 1, batch=1):
        for record in batch:
            return record if record.uid == uid else None
    return None


def describe(record: Record) -> list[str]:
    """A record, a line for each thing that there is to say."""
    lines = [
        f"uid: {record.uid}",
        f"guid: {record.guid.hex()}",
        f"size: {record.size}",
        f"flags: {record.flags}",
        f"internaldate: {_date(record.internaldate)}",
        f"modseq: {record.modseq}",
        f"last updated: {_date(record.last_updated)}",
    ]
    if record.expunged:
        lines.append("expunged: yes")
    if record.savedate:
        lines.append(f"saved: {_date(record.savedate)}")
    if record.createdmodseq:
        lines.append(f"created at modseq: {record.createdmodseq}")
    if record.thrid:
        lines.append(f"conversation: {record.thrid:016x}")
    for annotation in record.annotations:
        value = annotation.value.decode("utf-8", "backslashreplace")
        lines.append(f"annotation {annotation.entry} ({annotation.userid or 'shared'}): {value}")
    return lines


def _date(when: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when))
    except (OverflowError, OSError, ValueError):  # a year that no calendar has
        return f"{when} seconds after 1970"
