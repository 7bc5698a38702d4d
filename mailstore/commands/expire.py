"""expire: remove for good what was expunged or deleted long enough ago, and give its space back.

The one command that removes mail for good. What was expunged or deleted within the retention time can
still be brought back (mailstore unexpunge, rename, undelete). Packs of which more than a quarter is waste
are written anew. Run it once a day, on the master and on each replica."""

from __future__ import annotations

import argparse

from common.config import values
from common.errors import CyrusSyncError, UsageError
from common.stores.native.expire import Expired, expire, stored_owners
from mailstore.context import Context
from mailstore.errors import NoSuchUser

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


def run(args: argparse.Namespace, context: Context) -> int:
    try:
        retention = values.duration(args.retention, "d")
    except ValueError as error:
        raise UsageError(f"expire: --retention: {error}") from None
    if retention < 0:
        raise UsageError("expire: --retention: it cannot be negative")
    store = context.store()
    owners = [context.owner(user) for user in args.users] or stored_owners(store)
    for user, owner in zip(args.users, owners, strict=False):
        if store.directory_of(owner) is None:
            raise NoSuchUser(f"no such user: {user}")
    total, failed = Expired(), 0
    for owner in owners:
        try:
            done = expire(store, owner, retention, compact=not args.no_compact)
        except CyrusSyncError as error:
            # One locked or damaged user must not keep the others' waste.
            failed += 1
            context.warn(f"{context.owner_name(owner)}: {error}")
            continue
        if args.verbose:
            context.print(f"{context.owner_name(owner)}: {_text(done)}")
        for name in ("records", "mailboxes", "messages", "packs", "bytes"):
            setattr(total, name, getattr(total, name) + getattr(done, name))
    context.print(_text(total))
    return 1 if failed else 0


def _text(done: Expired) -> str:
    return (
        f"{done.records} expunged messages and {done.mailboxes} deleted mailboxes forgotten, "
        f"{done.messages} messages removed, {done.packs} packs rewritten, {done.bytes} octets freed"
    )
