"""create: make a mailbox; user/NAME makes a user.

Levels that are missing between it and the user's INBOX are made too. Without --acl the rights are those
of the mailbox above; a new user has all rights to his own. Empty lines of a file (-f), and lines that begin
with #, are passed over."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, UsageError
from cyrus_sync.common.names import is_inbox, owner_of, root_of
from cyrus_sync.mailstore.context import LOCK_SECONDS, StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoInput
from cyrus_sync.mailstore.folders import create_with_parents
from cyrus_sync.mailstore.rounds import Rounds

_MOST_TOGETHER = 256
"""Each has two files open until its group ends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mailbox", metavar="MAILBOX", nargs="*")
    parser.add_argument(
        "-f", "--input-file", metavar="FILE", help="make the mailboxes that it names, one a line; - is stdin"
    )
    parser.add_argument(
        "-p", "--partition", metavar="NAME", default="", help="of a new user: where all of him is stored"
    )
    parser.add_argument("--if-missing", action="store_true", help="no error if it is there already")
    parser.add_argument(
        "--acl",
        metavar="USER=RIGHTS",
        action="append",
        help="rights instead of inherited ones (may be repeated)",
    )


def run(args: argparse.Namespace, context: StoreContext) -> int:
    acl = None if args.acl is None else "".join(_entry(item) for item in args.acl)
    if not args.mailbox and args.input_file is None:
        raise UsageError("create: no MAILBOX is named, and no file of names (-f)")
    named = [] if args.input_file is None else _names(args.input_file, context)
    group = _Group(context, acl, args)
    for typed in [*args.mailbox, *named]:
        group.create(typed)
    group.end()
    return group.rounds.status


def _names(path: str, context: StoreContext) -> list[str]:
    """The names in a file. Raises `NoInput`."""
    try:
        octets = context.stdin.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise NoInput(f"{path}: {error.strerror}") from None
    lines = (line.strip() for line in octets.decode("utf-8-sig", "surrogateescape").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class _Group:
    """Mailboxes whose owners are new are brought to disk together, which takes a fraction of the time."""

    def __init__(self, context: StoreContext, acl: str | None, args: argparse.Namespace) -> None:
        self.rounds = Rounds(context)
        self._context = context
        self._acl = acl
        self._args = args
        self._together = context.store().together()
        self._waiting: list[str] = []

    def create(self, typed: str) -> None:
        """Make a mailbox. It is there for good after `end`, or before."""
        try:
            self._create(typed)
            self._waiting.append(typed)
        except CyrusSyncError as error:
            self.rounds.failed(typed, error)
        if len(self._waiting) >= _MOST_TOGETHER or not self._together.may_grow:
            self.end()

    def _create(self, typed: str) -> None:
        context, args = self._context, self._args
        name = context.new_mailbox(typed)
        owner = owner_of(name)
        if owner.kind == "user" and not is_inbox(name):
            self.end()
            context.require_user(owner, name)
        try:
            writer = self._together.writer(owner, 0 if self._waiting else LOCK_SECONDS)
        except MailboxLocked:  # nobody waits for one while he holds others
            self.end()
            writer = self._together.writer(owner, LOCK_SECONDS)
        there = writer.mailbox(name)
        if there is not None and not there.intermediate and not args.if_missing:
            raise BadInput(f"there is a mailbox {typed} already")
        top = writer.mailbox(root_of(owner))
        if args.partition and top is not None and top.partition != args.partition:
            raise BadInput(f"{context.external(top.name)} is on partition {top.partition} with all below it")
        with writer.savepoint():
            create_with_parents(writer, name, partition=args.partition, acl=self._acl)

    def end(self) -> None:
        """Make last what was made."""
        waiting, self._waiting = self._waiting, []
        try:
            self._together.commit()
        except CyrusSyncError as error:
            for typed in waiting:
                self.rounds.failed(typed, error)
        else:
            self.rounds.done(len(waiting))


def _entry(item: str) -> str:
    identifier, equals, rights = item.partition("=")
    if not equals or not identifier or "\t" in item:
        raise UsageError(f"create: '{item}' is not USER=RIGHTS")
    return f"{identifier}\t{rights}\t"
