"""create: make a mailbox; user/NAME makes a user.

Levels that are missing between it and the user's INBOX are made too. Without --acl the rights are those
of the mailbox above; a new user has all rights to his own."""

from __future__ import annotations

import argparse

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import is_inbox, owner_of
from cyrus_sync.mailstore.context import Context
from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.folders import create_with_parents
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="+")
    parser.add_argument("-p", "--partition", metavar="NAME", default="", help="where it is stored")
    parser.add_argument("--if-missing", action="store_true", help="no error if it is there already")
    parser.add_argument(
        "--acl",
        metavar="USER=RIGHTS",
        action="append",
        help="rights instead of inherited ones (may be repeated)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    acl = None if args.acl is None else "".join(_entry(item) for item in args.acl)
    rounds = Rounds(context)
    for typed in args.mailbox:
        with rounds.one(typed):
            _create(typed, args, acl, context)
    return rounds.status


def _create(typed: str, args: argparse.Namespace, acl: str | None, context: Context) -> None:
    name = context.new_mailbox(typed)
    owner = owner_of(name)
    if owner.kind == "user" and not is_inbox(name):
        context.require_user(owner, name)
    with context.write(owner) as writer:
        there = writer.mailbox(name)
        if there is not None and not there.intermediate and not args.if_missing:
            raise BadInput(f"there is a mailbox {typed} already")
        create_with_parents(writer, name, partition=args.partition, acl=acl)


def _entry(item: str) -> str:
    identifier, equals, rights = item.partition("=")
    if not equals or not identifier or "\t" in item:
        raise UsageError(f"create: '{item}' is not USER=RIGHTS")
    return f"{identifier}\t{rights}\t"
