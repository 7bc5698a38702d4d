"""expire: remove for good what was expunged or deleted long enough ago, and give its space back.

The one command that removes mail for good. What was expunged or deleted within the retention time can
still be brought back (mailstore unexpunge, rename, undelete). Packs of which more than a quarter is waste
are written anew; of those in an object store (mailstore tier), those of which more than half is. What
interrupted moves between partitions have left is removed. Run it once a day, on the master and on each
replica."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cyrus_sync.common.config import values
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import StoreError, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Expired
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.rounds import Rounds

DEFAULT = "7d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; default: the whole store")
    parser.add_argument(
        "-t",
        "--retention",
        metavar="DURATION",
        default=DEFAULT,
        help=f"keep what is younger (12h, 30d; a number alone is days); default {DEFAULT}",
    )
    parser.add_argument("--no-compact", action="store_true", help="leave the packs as they are")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each user")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    try:
        retention = values.duration(args.retention, "d")
    except ValueError as error:
        raise UsageError(f"expire: --retention: {error}") from None
    if retention < 0:
        raise UsageError("expire: --retention: it cannot be negative")
    care = context.care()
    total, rounds = Expired(), Rounds(context)
    wanted: Sequence[str | Owner] = args.users or list(care.everybody())
    if not args.users and not args.verbose:
        due = list(care.expirable(retention, compact=not args.no_compact))
        rounds.done(len(wanted) - len(due))  # with the others there is nothing to do
        wanted = due
    for typed in rounds.watched("expiring", wanted):
        with rounds.one(typed):
            owner = context.owner(typed) if isinstance(typed, str) else typed
            if isinstance(typed, str) and not care.is_stored(owner):
                raise NoSuchUser(f"no such user: {typed}")
            done = care.expire(owner, retention, compact=not args.no_compact)
            if args.verbose:
                context.print(f"{context.owner_name(owner)}: {_text(done)}")
            for text in done.left:
                rounds.failed(owner, StoreError(text))
            for name in ("records", "mailboxes", "messages", "packs", "bytes"):
                setattr(total, name, getattr(total, name) + getattr(done, name))
    context.print(_text(total))
    with rounds.naming("what interrupted moves have left"):
        for path in () if args.users else care.clear_moves():
            context.print(f"removed {path}, which an interrupted move had left")
    return rounds.status


def _text(done: Expired) -> str:
    return (
        f"{counted(done.records, 'expunged message')} and "
        f"{counted(done.mailboxes, 'deleted mailbox', 'deleted mailboxes')} forgotten, "
        f"{counted(done.messages, 'message')} removed, {counted(done.packs, 'pack')} rewritten, "
        f"{done.bytes} octets freed"
    )
