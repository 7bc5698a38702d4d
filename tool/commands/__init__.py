"""The subcommands of cyrus-sync(8): each a module with `add_arguments` and `run`.

A module's docstring is its help: ``name: what it does.`` and, below, what one should know. A module is
imported when its command is asked for.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple, Protocol, cast


class CommandModule(Protocol):
    """What `cli` needs of a module here."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """The exit status. ``args.config`` is the path of imapd.conf."""


class Subcommand(NamedTuple):
    """`module` is its name in this package."""

    module: str
    summary: str

    def load(self) -> CommandModule:
        return cast(CommandModule, import_module(f"{__name__}.{self.module}"))


COMMANDS = {
    "promote": Subcommand("promote", "make the store here the master, when its master is gone"),
    "demote": Subcommand("demote", "make the store here a replica"),
    "rescue": Subcommand("rescue", "bring what this disk still holds to the new master, list the rest"),
    "imap": Subcommand(
        "imap", "the lifeboat: let users read a store's mail over IMAP while their server is gone"
    ),
    "lmtp": Subcommand("lmtp", "take mail from a mail server into the store, by LMTP"),
    "web": Subcommand("web", "a page that shows how replication fares on this host, and what to type"),
}
