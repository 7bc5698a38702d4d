"""unsubscribe: end a user's subscription to mailboxes."""

from __future__ import annotations

import argparse

from cyrus_sync.mailstore.commands import subscribe
from cyrus_sync.mailstore.context import StoreContext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER")
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="+")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    return subscribe.change(args, context, subscribed=False)
