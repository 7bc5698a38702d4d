"""repair: make sums and the registry of mailboxes anew, where mailstore verify found them wrong.

CRCs and the sums for quotas are calculated from the records, which are taken as the truth; the registry
(which user holds which mailbox) from all indexes. Who is lost, or whose index cannot be read, stays
registered as he was: mailstore verify names him until he is back (mailstore reconstruct makes an index anew)
or is given up (sync_reset -f). Messages are not touched."""

from __future__ import annotations

import argparse

from common.stores.native.verify import rebuild_registry, recount
from mailstore.context import Context
from mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "users", metavar="USER", nargs="*", help="or shared:NAME; default: all, and the registry"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    store = context.store()
    rounds = Rounds(context)
    wrong = 0
    for owner in rounds.owners(args.users, store):
        with rounds.one(owner):
            found = recount(store, owner)
            if found:
                context.print(f"{context.owner_name(owner)}: sums of {found} mailboxes were wrong")
            wrong += found
    context.print(f"{wrong} mailboxes corrected")
    if not args.users:
        registered = rebuild_registry(store)
        if registered.aside:
            context.print(f"the registry was damaged: it is made anew, the old one is {registered.aside}")
        context.print(f"{registered.mailboxes} mailboxes in the registry")
        for owner in registered.unknown:
            context.warn(
                f"{context.owner_name(owner)}: stays in the registry as he was: he is lost, or cannot be read"
            )
    return rounds.status
