"""subscribe: subscribe a user to mailboxes.

Without MAILBOX, lists the user's subscriptions. A mailbox need not exist."""

from __future__ import annotations

import argparse

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.mailstore.context import StoreContext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER")
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="*")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    user = context.user(args.user)
    context.require_user(user)
    if not args.mailbox:
        with context.store(readonly=True).read(user) as reader:
            for name in reader.meta(with_sieve=False).subscriptions:
                context.print(context.external(name))
        return 0
    return change(args, context, subscribed=True)


def change(args: argparse.Namespace, context: StoreContext, *, subscribed: bool) -> int:
    """Subscribe or unsubscribe what the command line names; the exit status. Who is to be unsubscribed from
    what he is not subscribed to is named."""
    user = context.user(args.user)
    context.require_user(user)
    names = [context.internal(typed) for typed in args.mailbox]
    with context.write(user) as writer:
        had = set(writer.meta(with_sieve=False).subscriptions)
        for name in names:
            writer.subscribe(name, subscribed)
    strange = [name for name in names if not subscribed and name not in had]
    for name in strange:
        context.warn(f"{args.user} was not subscribed to {context.external(name)}")
    return EX_FAILURE if strange else EX_OK
