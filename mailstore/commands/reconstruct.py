"""reconstruct: make the index of a user anew, from his messages and whatever of the old index can be read.

For an index that is damaged or lost. Mailboxes, UIDs, UIDVALIDITY, flags, dates and annotations come from
the old index, as far as it can be read. Messages of which it says nothing any more come into the folder
Recovered, with the dates of their headers and without flags. What could not be had is named, and the exit
status is then 1. The old index stays in the user's directory (index.sqlite.damaged-…). Messages that cannot
be read keep their place in the mailbox; mailstore verify names them.

A replica is brought into step by the next sync_client: messages that only the replica has come back from
there, and it gets what is in Recovered."""

from __future__ import annotations

import argparse

from cyrus_sync.common.counted import counted, mailboxes
from cyrus_sync.common.errors import EX_FAILURE, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Reconstructed
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME")
    parser.add_argument("--everybody", action="store_true", help="all of the store, the sound ones too")
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if bool(args.users) == args.everybody:
        raise UsageError("reconstruct: name users, or say --everybody")
    care = context.care()
    rounds = Rounds(context)
    doubtful = False
    for item in args.users or care.everybody():
        with rounds.one(item):
            owner: Owner = context.owner(item) if isinstance(item, str) else item
            done = care.reconstruct(owner, dry_run=args.dry_run)
            doubtful = doubtful or bool(done.doubts)
            _tell(context, owner, done, args.dry_run)
    return rounds.status or (EX_FAILURE if doubtful else 0)


def _tell(context: StoreContext, owner: Owner, done: Reconstructed, dry_run: bool) -> None:
    name = context.owner_name(owner)
    would = "would be " if dry_run else ""
    context.print(
        f"{name}: {would}made anew with {mailboxes(done.mailboxes)} and {counted(done.messages, 'message')}"
    )
    if done.aside is not None:
        context.print(f"{name}: the old index is {done.aside}")
    for doubt in done.doubts:
        context.warn(f"{name}: {doubt}")
