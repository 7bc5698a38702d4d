"""ls: list users and shared mailboxes, or the mailboxes of one.

Columns: name, messages, unseen messages, octets; for one user also the highest UID and the partition.
Deleted mailboxes that can be brought back are listed with --deleted. With --source cyrus, those of a real
Cyrus that has this imapd.conf, and may be running."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from cyrus_sync.common.master import MasterReader
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import is_deleted
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.selection import records_of
from cyrus_sync.mailstore.source import CYRUS, add_source


class Count(NamedTuple):
    """Of the live messages of a mailbox."""

    messages: int
    unseen: int
    octets: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", nargs="?", help="or shared:NAME")
    parser.add_argument("--deleted", action="store_true", help="deleted mailboxes too")
    parser.add_argument("-1", "--names", action="store_true", help="names alone")
    add_source(parser)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    store = context.source(args.source)
    rows: list[tuple[str, ...]] = []
    rounds = Rounds(context)
    if args.user is None and args.names and args.source != CYRUS:
        for owner, known in context.care(readonly=True).survey():
            with rounds.one(owner):
                if known is None:
                    with store.read(owner) as reader:
                        reader.mailboxes()
                rows.append((context.owner_name(owner),))
    elif args.user is None:
        for owner in store.owners():
            with rounds.one(owner), store.read(owner) as reader:
                rows.append((context.owner_name(owner), *_totals(reader, args)))
    else:
        owner = context.owner(args.user)
        if not store.exists(owner):
            raise NoSuchUser(f"no such user: {args.user}")
        with store.read(owner) as reader:
            for box in _mailboxes(reader, args.deleted):
                row: tuple[str, ...] = (context.external(box.name),)
                if not args.names:
                    row += (*_columns(count(reader, box)), f"uid {box.last_uid}", box.partition)
                rows.append(row)
    _print(rows, context)
    return rounds.status


def _totals(reader: MasterReader, args: argparse.Namespace) -> tuple[str, ...]:
    """What is said of an owner behind the name."""
    boxes = _mailboxes(reader, args.deleted)
    if args.names:
        return ()
    counts = [count(reader, box) for box in boxes] or [Count(0, 0, 0)]
    return f"{len(boxes)} mailboxes", *_columns(Count(*map(sum, zip(*counts, strict=True))))


def count(reader: MasterReader, mailbox: MailboxState) -> Count:
    """Count the live messages."""
    messages = unseen = octets = 0
    for batch in records_of(reader, mailbox):
        messages += len(batch)
        unseen += sum("\\Seen" not in record.flags for record in batch)
        octets += sum(record.size for record in batch)
    return Count(messages, unseen, octets)


def _mailboxes(reader: MasterReader, deleted: bool) -> list[MailboxState]:
    return [
        box
        for box in reader.mailboxes()
        if not box.intermediate and not box.tombstone and (deleted or not is_deleted(box.name))
    ]


def _columns(counted: Count) -> tuple[str, str, str]:
    return f"{counted.messages} messages", f"{counted.unseen} unseen", f"{counted.octets} octets"


def _print(rows: list[tuple[str, ...]], context: StoreContext) -> None:
    """Columns: the first to the left, the others to the right."""
    if not rows:
        return
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        context.print("  ".join(cells).rstrip())
