"""The subcommands of mailstore(8): each a module with `add_arguments` and `run`.

A module's docstring is its help: ``name: what it does.`` and, below, what one should know.
"""

from __future__ import annotations

import argparse
from typing import Protocol

from mailstore.commands import (
    acl,
    annotate,
    copy,
    create,
    delete,
    deliver,
    dump,
    expire,
    export,
    expunge,
    flag,
    importing,
    ls,
    passwd,
    quota,
    rename,
    repair,
    sample,
    show,
    sieve,
    stats,
    subscribe,
    undelete,
    unexpunge,
    unsubscribe,
    verify,
)
from mailstore.context import Context


class Command(Protocol):
    """What `cli` needs of a module here."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, context: Context) -> int: ...


COMMANDS: dict[str, Command] = {
    "passwd": passwd,
    "import": importing,
    "deliver": deliver,
    "sample": sample,
    "flag": flag,
    "expunge": expunge,
    "unexpunge": unexpunge,
    "copy": copy,
    "create": create,
    "rename": rename,
    "delete": delete,
    "undelete": undelete,
    "setacl": acl,
    "setquota": quota,
    "annotate": annotate,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "sieve": sieve,
    "ls": ls,
    "show": show,
    "dump": dump,
    "verify": verify,
    "repair": repair,
    "export": export,
    "expire": expire,
    "stats": stats,
}
