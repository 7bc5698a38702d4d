"""repair: make sums and the registry of mailboxes anew, where mailstore verify found them wrong.

CRCs and the sums for quotas are calculated from the records, which are taken as the truth; the registry
(which user holds which mailbox) from all indexes. Messages are not touched."""

from __future__ import annotations

import argparse

from common.stores.native.verify import rebuild_registry, recount
from mailstore.context import Context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "users", metavar="USER", nargs="*", help="or shared:NAME; default: all, and the registry"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    store = context.store()
    wrong = 0
    for owner in list(context.owners(args.users, store)):
        found = recount(store, owner)
        if found:
            context.print(f"{context.owner_name(owner)}: sums of {found} mailboxes were wrong")
        wrong += found
    context.print(f"{wrong} mailboxes corrected")
    if not args.users:
        context.print(f"{rebuild_registry(store)} mailboxes in the registry")
    return 0
