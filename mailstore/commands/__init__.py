"""The subcommands of mailstore(8): each a module with `add_arguments` and `run`.

A module's docstring is its help: ``name: what it does.`` and, below, what one should know. A module is
imported when its command is asked for: delivering a message must not wait for the libraries of others.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from cyrus_sync.mailstore.context import Context


class Command(Protocol):
    """What `cli` needs of a module here."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, context: Context) -> int: ...


class Entry(NamedTuple):
    """`module` is its name in this package."""

    module: str
    summary: str

    def load(self) -> Command:
        return cast(Command, import_module(f"{__name__}.{self.module}"))


COMMANDS = {
    "passwd": Entry("passwd", "give a user a password for logging in to sync_server"),
    "import": Entry(
        "importing",
        "put mail from a Maildir, an mbox file or a tree of .eml files into a mailbox and its folders",
    ),
    "deliver": Entry("deliver", "put one message from standard input into a mailbox, as lmtpd(8) would"),
    "sample": Entry("sample", "fill the store with sample mail, for trying things out"),
    "flag": Entry("flag", "set or remove flags and keywords of messages"),
    "expunge": Entry("expunge", "remove messages from a mailbox"),
    "unexpunge": Entry("unexpunge", "bring expunged messages back, under new UIDs"),
    "copy": Entry("copy", "copy or move messages to another mailbox of the same owner"),
    "create": Entry("create", "make a mailbox; user/NAME makes a user"),
    "rename": Entry(
        "rename",
        "rename a mailbox with all that is below it, or a whole user; or move it to another partition",
    ),
    "delete": Entry("delete", "delete a mailbox; user/NAME deletes the user with everything"),
    "undelete": Entry(
        "undelete", "bring back a mailbox that was removed at once, as long as expire has not been there"
    ),
    "setacl": Entry("acl", "give, change or take rights to a mailbox"),
    "setquota": Entry("quota", "set or remove the limits of a quota root"),
    "annotate": Entry("annotate", "set, remove or list annotations of a mailbox, a message or the server"),
    "subscribe": Entry("subscribe", "subscribe a user to mailboxes"),
    "unsubscribe": Entry("unsubscribe", "end a user's subscription to mailboxes"),
    "sieve": Entry("sieve", "put, activate, delete, list or show a user's Sieve scripts"),
    "ls": Entry("ls", "list users and shared mailboxes, or the mailboxes of one"),
    "show": Entry("show", "print a message as it is stored, or what the index says of it"),
    "dump": Entry(
        "dump", "write the complete logical state of the store, or of some users, in one canonical order"
    ),
    "verify": Entry("verify", "check the whole store, or some users, and name what is wrong"),
    "repair": Entry(
        "repair", "make sums and the registry of mailboxes anew, where mailstore verify found them wrong"
    ),
    "reconstruct": Entry(
        "reconstruct",
        "make the index of a user anew, from his messages and whatever of the old index can be read",
    ),
    "export": Entry("export", "write a user's mail as a Maildir++ or as mbox files"),
    "restore": Entry(
        "restore",
        "write a user or mailboxes of this store into a csync server, showing first what it will do",
    ),
    "expire": Entry(
        "expire", "remove for good what was expunged or deleted long enough ago, and give its space back"
    ),
    "stats": Entry(
        "stats",
        "how much there is in the store: owners, mailboxes, messages, octets, and what the disk holds",
    ),
}
