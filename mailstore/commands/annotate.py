"""annotate: set, remove or list annotations of a mailbox, a message or the server.

MAILBOX "" is the server. ENTRY is a name such as /comment. A value that begins with @ is read from that
file, @- from standard input; without VALUE the annotation is removed. Without ENTRY, lists what there
is. --user makes it a private annotation of that user; without it, it is shared."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from common.errors import UsageError
from common.names import SERVER, owner_of
from common.numbers import number
from mailstore.context import Context
from mailstore.errors import NoInput, NoSuchMessage
from mailstore.selection import records_of, select

_BAD_ENTRY = re.compile(r"[\x00-\x1f\x7f*%]|[^\x00-\x7f]|//|/$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX")
    parser.add_argument("entry", metavar="ENTRY", nargs="?")
    parser.add_argument("value", metavar="VALUE", nargs="?")
    parser.add_argument("--user", metavar="USER", default="", help="private to this user")
    parser.add_argument("--uid", metavar="UID", type=number, default=0, help="of this message")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.entry is None:
        return _list(args, context)
    if not args.entry.startswith("/") or _BAD_ENTRY.search(args.entry):
        raise UsageError(f"annotate: '{args.entry}' is not the name of an annotation")
    value = None if args.value is None else _read(args.value, context)
    if not args.mailbox:
        if args.uid:
            raise UsageError("annotate: the server has no messages")
        with context.write(SERVER) as writer:
            writer.annotate("", args.entry, args.user, value)
        return 0
    with context.writing(args.mailbox) as (writer, mailbox):
        if args.uid and not select(writer, mailbox, str(args.uid)):
            raise NoSuchMessage(f"there is no message {args.uid} in {args.mailbox}")
        writer.annotate(mailbox.name, args.entry, args.user, value, uid=args.uid)
    return 0


def _list(args: argparse.Namespace, context: Context) -> int:
    name = context.internal(args.mailbox) if args.mailbox else ""
    with context.store(readonly=True).read(owner_of(name) if name else SERVER) as reader:
        if args.uid:
            mailbox = context.require(reader, name)
            found = [
                (annotation.entry, annotation.userid, annotation.value)
                for batch in records_of(reader, mailbox)
                for record in batch
                if record.uid == args.uid
                for annotation in record.annotations
            ]
        else:
            found = [(one.entry, one.userid, one.value) for one in reader.annotations(name)]
    for entry, userid, value in found:
        context.print(f"{entry}\t{userid or 'shared'}\t{value.decode('utf-8', 'backslashreplace')}")
    return 0


def _read(typed: str, context: Context) -> bytes:
    if typed == "@-":
        return context.stdin.read()
    if not typed.startswith("@"):
        return typed.encode("utf-8", "surrogateescape")
    try:
        return Path(typed[1:]).read_bytes()
    except OSError as error:
        raise NoInput(f"{typed[1:]}: {error.strerror}") from error
