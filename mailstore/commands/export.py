"""export: write a user's mail as a Maildir++ or as mbox files.

DIR must be empty or not exist. maildir: as Dovecot keeps it, with UIDs and UIDVALIDITY in dovecot-uidlist, so
that clients of a Dovecot notice nothing; octet for octet as stored, flags in the file names,
keywords in dovecot-keywords (26 a folder, further ones in our own cyrus-sync-keywords), internal dates as
times of modification, subscriptions in the file "subscriptions". A dot inside a name is written \\2e, as
Dovecot's plugin listescape has it. mailstore import reads all of it back. mbox: one file a mailbox, in
mboxrd with LF line ends, flags in Status, X-Status and X-Keywords, UIDs in X-UID; the list mailboxes.tsv
says which file is which mailbox, and what is subscribed to. A message whose octets an mbox cannot say (bare
line feeds, no line end at its end, fields of those names) stands as it is behind X-Mailstore-Octets.
mailstore import brings back the same octets, order, UIDs, flags and dates."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoSuchUser
from cyrus_sync.mailstore.targets.maildir import MaildirTarget
from cyrus_sync.mailstore.targets.mbox import MboxTarget
from cyrus_sync.mailstore.targets.walk import Target, export_owner

_TARGETS: dict[str, Callable[[Path, Callable[[str], None]], Target]] = {
    "maildir": MaildirTarget,
    "mbox": lambda path, notice: MboxTarget(path),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="or shared:NAME")
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--format", choices=tuple(_TARGETS), default="maildir")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    owner: Owner = context.owner(args.user)
    store = context.store(readonly=True)
    if not store.exists(owner):
        raise NoSuchUser(f"no such user: {args.user}")
    if args.directory.exists() and (not args.directory.is_dir() or any(args.directory.iterdir())):
        raise BadInput(f"{args.directory} is there and not an empty directory")
    args.directory.mkdir(parents=True, exist_ok=True)
    target: Target = _TARGETS[args.format](args.directory, context.warn)
    reader: MailReader
    with store.read(owner) as reader:
        stats = context.care(readonly=True).stats(owner)
        total = stats.messages if stats else None
        with context.progress(f"exporting {args.user}", total=total) as meter:
            done = export_owner(reader, target, context.warn, meter)
    context.print(f"{done.messages} messages of {done.mailboxes} mailboxes written to {args.directory}")
    return 1 if done.missing else 0
