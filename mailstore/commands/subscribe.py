"""subscribe: subscribe a user to mailboxes.

Without MAILBOX, lists the user's subscriptions. A mailbox need not exist."""

from __future__ import annotations

import argparse

from mailstore.context import Context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER")
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="*")


def run(args: argparse.Namespace, context: Context) -> int:
    user = context.user(args.user)
    context.require_user(user)
    if not args.mailbox:
        with context.store(readonly=True).read(user) as reader:
            for name in reader.meta(with_sieve=False).subscriptions:
                context.print(context.external(name))
        return 0
    change(args, context, subscribed=True)
    return 0


def change(args: argparse.Namespace, context: Context, *, subscribed: bool) -> None:
    """Subscribe or unsubscribe what the command line names."""
    user = context.user(args.user)
    context.require_user(user)
    names = [context.internal(typed) for typed in args.mailbox]
    with context.write(user) as writer:
        for name in names:
            writer.subscribe(name, subscribed)
