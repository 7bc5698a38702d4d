"""cyrus-sync(8): what an administrator does with a whole server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cyrus_sync.common.commands import Parser, add_version, run_command
from cyrus_sync.common.config import DEFAULT_PATH
from cyrus_sync.tool.commands import COMMANDS

_EPILOG = """\
exit status:
  0   done
  1   something was left out; what, is said
  64  the command line makes no sense
  70  an internal error
  75  the store cannot be had now, or the disk refuses
  78  imapd.conf has a bad value, or an address cannot be listened on
"""


def parser(*commands: str) -> argparse.ArgumentParser:
    """The command line, with the arguments of `commands`."""
    top = Parser(
        prog="cyrus-sync",
        description="What an administrator does with a whole server: each command has its own --help.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf to read")
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
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""

    def work(words: list[str]) -> int:
        args = parser(*words).parse_args(words)
        return COMMANDS[args.command].load().run(args)

    return run_command("cyrus-sync", work, argv)


if __name__ == "__main__":
    sys.exit(main())
