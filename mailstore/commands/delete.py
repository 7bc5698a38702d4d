"""delete: delete a mailbox; user/NAME deletes the user with everything.

What happens to the messages says delete_mode: delayed (the default) renames the mailbox below DELETED.,
where mailstore rename can bring it back until mailstore expire removes it; immediate removes it at once.
What is below a folder stays, unless --recursive is given."""

from __future__ import annotations

import argparse

from cyrus_sync.common.names import is_inbox, owner_of
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="+")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--immediate", dest="mode", action="store_const", const="immediate", help="whatever delete_mode says"
    )
    mode.add_argument(
        "--delayed", dest="mode", action="store_const", const="delayed", help="whatever delete_mode says"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="and all that is below it")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    delayed = (args.mode or context.config.string("delete_mode")) == "delayed"
    rounds = Rounds(context)
    for typed in args.mailbox:
        with rounds.one(typed):
            _delete(typed, args.recursive, delayed, context)
    return rounds.status


def _delete(typed: str, recursive: bool, delayed: bool, context: StoreContext) -> None:
    name = context.internal(typed)
    if is_inbox(name):
        context.require_user(owner_of(name))
    with context.writing(typed) as (writer, mailbox):
        names = [mailbox.name]
        if recursive and not is_inbox(name):
            below = mailbox.name + "."
            names += [m.name for m in writer.mailboxes() if m.name.startswith(below) and not m.intermediate]
        for one in reversed(names):
            writer.delete(one, delayed=delayed)
