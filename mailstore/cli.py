"""mailstore(8): the administrator's tool for a mail store. One module of `mailstore.commands` each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import BinaryIO, TextIO

from cyrus_sync.common.commands import Parser, add_version, run_command
from cyrus_sync.common.config import DEFAULT_PATH
from cyrus_sync.mailstore.commands import COMMANDS
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import EXIT_STATUS


def parser(*commands: str) -> argparse.ArgumentParser:
    """The command line, with the arguments of `commands`."""
    top = Parser(
        prog="mailstore",
        description="Look at, fill, change, check and clean up a mail store. Mailboxes are named as an "
        "administrator names them (user/alice/Work with unixhierarchysep). Changes are written to the "
        "action log, if sync_log is on, so that sync_client replicates them.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf to read")
    top.add_argument(
        "--even-replica",
        action="store_true",
        help="make the change although only replication may change this store: to be rid of what a split "
        "brain has left on a replica",
    )
    add_version(top)
    found = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        if name not in commands:
            found.add_parser(name, help=entry.summary)
            continue
        module = entry.load()
        command = found.add_parser(
            name,
            help=entry.summary,
            description=(module.__doc__ or "").strip().partition(": ")[2],
            epilog=EXIT_STATUS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top


def main(
    argv: Sequence[str] | None = None,
    *,
    stdin: BinaryIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run one command; the exit status."""

    def work(words: list[str]) -> int:
        args = parser(*words).parse_args(words)
        context = StoreContext(
            args.config, even_replica=args.even_replica, stdin=stdin, stdout=stdout, stderr=stderr
        )
        command = COMMANDS[args.command]
        try:
            if command.changes:
                context.check_changes()
            return command.load().run(args, context)
        finally:
            context.close()

    return run_command("mailstore", work, argv, stderr=stderr)


if __name__ == "__main__":
    sys.exit(main())
