"""sample: fill the store with sample mail, for trying things out.

Five users of a bicycle workshop that does not exist, a shared mailbox, some four hundred messages in
several languages with attachments, and folders, flags, keywords, rights, quotas, subscriptions, Sieve
scripts and annotations. None of the users may exist yet."""

from __future__ import annotations

import argparse

from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import number
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.sample import USERS, fill


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=number, default=1, help="another number makes other mail")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    store = context.store()
    for userid in USERS:
        if store.exists(Owner("user", userid)):
            raise BadInput(f"there is a user {userid} already")
    done = fill(store, seed=args.seed)
    context.print(f"{done.messages} messages in {done.mailboxes} mailboxes of {', '.join(done.users)}")
    return 0
