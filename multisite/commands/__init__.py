"""The subcommands of multitool(8): each a module with `GRAMMAR` and `run`.

A command that goes two ways (``-export`` and ``-import``) has a module for either; the first option of its
grammar says which one is meant. A module is imported when its command is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.one_dash import DASHES, Grammar
from cyrus_sync.multisite.commands.context import Context


class CommandModule(Protocol):
    """What `running` needs of a module here."""

    GRAMMAR: Grammar

    def run(self, context: Context) -> int:
        """Do the work; the exit status. Raises what `common.commands` makes a status of."""


class Subcommand(NamedTuple):
    """`modules` are names in this package."""

    modules: tuple[str, ...]
    summary: str

    def load(self) -> list[CommandModule]:
        """The modules, imported."""
        return [cast(CommandModule, import_module(f"{__name__}.{name}")) for name in self.modules]

    def chosen(self, argv: Sequence[str]) -> CommandModule:
        """The module that a command line is for. Raises `UsageError` if it does not say."""
        commands = self.load()
        if len(commands) == 1:
            return commands[0]
        for word in argv:
            if word == "--":
                break
            for command in commands:
                if len(word) > 1 and word[0] in DASHES:
                    typed = word.lstrip(DASHES).replace("·", "").replace("/", "")
                    if command.GRAMMAR.options[0].answers_to(typed):
                        return command
        *ways, last = [f"-{command.GRAMMAR.options[0].name}" for command in commands]
        raise UsageError(f"either {', '.join(ways)} or {last} is needed")


COMMANDS = {
    "syncreplica": Subcommand(
        ("syncreplica_export", "syncreplica_import", "syncreplica_status"),
        "write what other replicas lack into packets, or apply packets",
    ),
    "sync_export_list": Subcommand(("sync_export_list",), "packets for many replicas, for a timer"),
    "sync_receive": Subcommand(("sync_receive",), "apply what has come, for a timer or a receipt handler"),
    "mkfamily": Subcommand(("mkfamily",), "make this server the first replica of a new family"),
    "mkreplica": Subcommand(
        ("mkreplica_export", "mkreplica_import"), "add a replica to the family, or make this server one"
    ),
    "lsreplica": Subcommand(("lsreplica",), "list the replicas"),
    "chreplica": Subcommand(("chreplica",), "change a replica's host, storage class or keys"),
    "keys": Subcommand(("keys",), "show the fingerprints of the replicas' keys, or change this one's"),
    "rmreplica": Subcommand(("rmreplica",), "take a replica out of the family"),
    "rename": Subcommand(("rename",), "rename a mailbox, or a replica"),
    "merge": Subcommand(("merge",), "make one mailbox of two that want one name"),
    "chfamily": Subcommand(("chfamily",), "show or change what holds for the whole family"),
    "rescue": Subcommand(("rescue",), "deliver the mail of a packet that cannot be applied"),
    "giveup": Subcommand(("giveup",), "go on without messages that nobody has any more"),
    "conflicts": Subcommand(("conflicts",), "show what has a generated name, and how to settle it"),
    "describe": Subcommand(("describe",), "show what is known of a replica or a mailbox"),
    "lsmaster": Subcommand(("lsmaster",), "show who is master of whom"),
    "chmaster": Subcommand(("chmaster",), "hand users over to another master"),
    "lspacket": Subcommand(("lspacket",), "show what packets are, and for whom"),
    "checkpacket": Subcommand(("checkpacket",), "say whether packets are whole, genuine, and can be applied"),
    "lshistory": Subcommand(("lshistory",), "list what was changed, by user, mailbox, replica and time"),
    "dumpoplog": Subcommand(("dumpoplog",), "show the operations log, operation by operation"),
    "scrubber": Subcommand(("scrubber",), "trim what the operations log and the logs hold of long ago"),
    "setaside": Subcommand(("setaside",), "show, or drop, operations that cannot be carried out"),
    "status": Subcommand(("status",), "show who is behind and what waits, for people and for monitoring"),
    "lsepoch": Subcommand(("lsepoch",), "show what each replica has, or is believed to have"),
    "chepoch": Subcommand(("chepoch",), "correct what a replica is believed to have"),
    "recoverpacket": Subcommand(("recoverpacket",), "have a lost packet exported again"),
    "restorereplica": Subcommand(
        ("restorereplica",), "after a restore from backup, get back what is lacking"
    ),
    "lsrestore": Subcommand(("lsrestore",), "show whether a restore is under way, and who is awaited"),
}
