"""mailstore(8): the administrator's tool for a mail store. One module of `mailstore.commands` each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import BinaryIO, NoReturn, TextIO

from common.config import DEFAULT_PATH
from common.errors import EX_FAILURE, EX_TEMPFAIL, EX_USAGE, CyrusSyncError
from mailstore.commands import COMMANDS
from mailstore.context import Context
from mailstore.errors import EXIT_STATUS


class _Parser(argparse.ArgumentParser):
    """argparse, but a senseless command line is EX_USAGE."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def parser(*commands: str) -> argparse.ArgumentParser:
    """The command line, with the arguments of `commands`."""
    top = _Parser(
        prog="mailstore",
        description="Look at, fill, change, check and clean up a mail store. Mailboxes are named as an "
        "administrator names them (user/alice/Work with unixhierarchysep). Changes are written to the "
        "action log, if sync_log is on, so that sync_client replicates them.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf to read")
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
    argv = sys.argv[1:] if argv is None else argv
    args = parser(*argv).parse_args(argv)
    context = Context(args.config, stdin=stdin, stdout=stdout, stderr=stderr)
    try:
        return COMMANDS[args.command].load().run(args, context)
    except CyrusSyncError as error:
        context.warn(str(error))
        return error.exit_status
    except BrokenPipeError:
        # Whoever was reading our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILURE
    except OSError as error:
        context.warn(str(error))
        return EX_TEMPFAIL
    except KeyboardInterrupt:
        context.warn("interrupted")
        return 130
    finally:
        context.close()


if __name__ == "__main__":
    sys.exit(main())
