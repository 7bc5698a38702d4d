"""annotate: set, remove or list annotations of a mailbox, a message or the server.

MAILBOX "" is the server. ENTRY is a name such as /comment. A value that begins with @ is read from that
file, @- from standard input; without VALUE the annotation is removed. Without ENTRY, lists what there
is. --user makes it a private annotation of that user; without it, it is shared."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import SERVER, owner_of
from cyrus_sync.common.numbers import number
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.commands.show import find
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoInput, NoSuchMessage
from cyrus_sync.mailstore.selection import select

_BAD_ENTRY = re.compile(r"[\x00-\x1f\x7f*%]|[^\x00-\x7f]|//|/$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("entry", metavar="ENTRY", nargs="?")
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument("--user", metavar="USER", default="", help="private to this user")
    parser.add_argument("--uid", metavar="UID", type=number, default=0, help="of this message")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.entry is None:
        return _list(args, context)
    if not args.entry.startswith("/") or _BAD_ENTRY.search(args.entry):
        raise UsageError(f"annotate: '{args.entry}' is not the name of an annotation")
    value = None if args.value is None else _read(args.value, context)
    if not args.mailbox:
        if args.uid:
            raise UsageError("annotate: the server has no messages")
        with context.write(SERVER) as writer:
            had = _had(writer, None, args)
            writer.annotate("", args.entry, args.user, value)
        return _status(args, context, value, had)
    with context.writing(args.mailbox) as (writer, mailbox):
        if args.uid and not select(writer, mailbox, str(args.uid)).uids:
            raise NoSuchMessage(f"there is no message {args.uid} in {args.mailbox}")
        had = _had(writer, mailbox, args)
        writer.annotate(mailbox.name, args.entry, args.user, value, uid=args.uid)
    return _status(args, context, value, had)


def _had(reader: MailReader, mailbox: MailboxState | None, args: argparse.Namespace) -> bool:
    """Whether the annotation that is named is there before."""
    return (args.entry, args.user) in [(entry, userid) for entry, userid, _ in _found(reader, mailbox, args)]


def _status(args: argparse.Namespace, context: StoreContext, value: bytes | None, had: bool) -> int:
    if value is not None or had:
        return EX_OK
    of = f" of {args.user}" if args.user else ""
    what = args.mailbox or "the server"
    message = f"message {args.uid} in " if args.uid else ""
    context.warn(f"{message}{what} had no annotation {args.entry}{of}")
    return EX_FAILURE


def _found(
    reader: MailReader, mailbox: MailboxState | None, args: argparse.Namespace
) -> list[tuple[str, str, bytes]]:
    """Entry, userid and value of each annotation of the message, the mailbox or the server (None)."""
    if mailbox is None or not args.uid:
        name = "" if mailbox is None else mailbox.name
        return [(one.entry, one.userid, one.value) for one in reader.annotations(name)]
    record = find(reader, mailbox, args.uid)
    if record is None or record.expunged:
        raise NoSuchMessage(f"there is no message {args.uid} in {args.mailbox}")
    return [(one.entry, one.userid, one.value) for one in record.annotations]


def _list(args: argparse.Namespace, context: StoreContext) -> int:
    name = context.internal(args.mailbox) if args.mailbox else ""
    if args.uid and not name:
        raise UsageError("annotate: the server has no messages")
    with context.store(readonly=True).read(owner_of(name) if name else SERVER) as reader:
        found = _found(reader, context.require(reader, name) if name else None, args)
    for entry, userid, value in found:
        context.print(f"{entry}\t{userid or 'shared'}\t{value.decode('utf-8', 'backslashreplace')}")
    return 0


def _read(typed: str, context: StoreContext) -> bytes:
    if typed == "@-":
        return context.stdin.read()
    if not typed.startswith("@"):
        return typed.encode("utf-8", "surrogateescape")
    try:
        return Path(typed[1:]).read_bytes()
    except OSError as error:
        raise NoInput(f"{typed[1:]}: {error.strerror}") from error
