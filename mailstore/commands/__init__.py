"""The subcommands of mailstore(8): each a module with `add_arguments` and `run`.

A module's docstring is its help: ``name: what it does.`` and, below, what one should know. A module is
imported when its command is asked for: delivering a message must not wait for the libraries of others.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from cyrus_sync.mailstore.context import StoreContext


class CommandModule(Protocol):
    """What `cli` needs of a module here."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, context: StoreContext) -> int: ...


class Subcommand(NamedTuple):
    """`module` is its name in this package. `changes`: it changes mail, which a replica takes from
    replication alone."""

    module: str
    summary: str
    changes: bool = False

    def load(self) -> CommandModule:
        return cast(CommandModule, import_module(f"{__name__}.{self.module}"))


COMMANDS = {
    "passwd": Subcommand("passwd", "give a user a password for logging in to sync_server"),
    "import": Subcommand(
        "importing",
        "put mail from a Maildir, an mbox file or a tree of .eml files into a mailbox and its folders",
        changes=True,
    ),
    "deliver": Subcommand("deliver", "put one message from standard input into a mailbox, as lmtpd(8) would"),
    "sample": Subcommand("sample", "fill the store with sample mail, for trying things out", changes=True),
    "flag": Subcommand("flag", "set or remove flags and keywords of messages", changes=True),
    "expunge": Subcommand("expunge", "remove messages from a mailbox", changes=True),
    "unexpunge": Subcommand("unexpunge", "bring expunged messages back, under new UIDs", changes=True),
    "copy": Subcommand("copy", "copy or move messages to another mailbox of the same owner", changes=True),
    "create": Subcommand("create", "make a mailbox; user/NAME makes a user", changes=True),
    "rename": Subcommand(
        "rename", "rename a mailbox with all that is below it, or a whole user", changes=True
    ),
    "move": Subcommand("move", "bring users to another partition, while they are in use", changes=True),
    "delete": Subcommand(
        "delete", "delete a mailbox; user/NAME deletes the user with everything", changes=True
    ),
    "tier": Subcommand("tier", "move old packs into an object store, or bring them back"),
    "undelete": Subcommand(
        "undelete",
        "bring back a mailbox that was removed at once, as long as expire has not been there",
        changes=True,
    ),
    "setacl": Subcommand("acl", "give, change or take rights to a mailbox", changes=True),
    "setquota": Subcommand("quota", "set or remove the limits of a quota root", changes=True),
    "annotate": Subcommand(
        "annotate", "set, remove or list annotations of a mailbox, a message or the server"
    ),
    "subscribe": Subcommand("subscribe", "subscribe a user to mailboxes", changes=True),
    "unsubscribe": Subcommand("unsubscribe", "end a user's subscription to mailboxes", changes=True),
    "sieve": Subcommand("sieve", "put, activate, delete, list or show a user's Sieve scripts"),
    "ls": Subcommand("ls", "list users and shared mailboxes, or the mailboxes of one"),
    "show": Subcommand("show", "print a message as it is stored, or what the index says of it"),
    "dump": Subcommand(
        "dump", "write the complete logical state of the store, or of some users, in one canonical order"
    ),
    "verify": Subcommand("verify", "check the whole store, or some users, and name what is wrong"),
    "repair": Subcommand(
        "repair", "make sums and the registry of mailboxes anew, where mailstore verify found them wrong"
    ),
    "reconstruct": Subcommand(
        "reconstruct",
        "make the index of a user anew, from his messages and whatever of the old index can be read",
    ),
    "export": Subcommand(
        "export",
        "write a user's mail as a Maildir++ or as mbox files, or keep Maildirs in step for a Dovecot",
    ),
    "restore": Subcommand(
        "restore",
        "write a user or mailboxes of this store into a csync server, showing first what it will do",
    ),
    "backup": Subcommand(
        "backup", "copy users into an object store (S3, or a directory), what is new of them, checked"
    ),
    "prune": Subcommand("prune", "remove from an object store what of the backups there is too old"),
    "expire": Subcommand(
        "expire", "remove for good what was expunged or deleted long enough ago, and give its space back"
    ),
    "stats": Subcommand(
        "stats",
        "how much there is in the store: owners, mailboxes, messages, octets, and what the disk holds",
    ),
    "fleet": Subcommand(
        "fleet",
        "look after a store of many machines: what is in it, settling it, moving users in and out",
    ),
}
