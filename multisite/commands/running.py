"""Running a subcommand: parse, help, errors to exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, EX_USAGE, CyrusSyncError, UsageError
from multisite.commands import COMMANDS
from multisite.commands.context import Context
from multisite.options import DASHES

INTERRUPTED = 130


def run(name: str, argv: Sequence[str]) -> int:
    """Run the command of this name; the exit status."""
    entry = COMMANDS[name]
    try:
        command = entry.chosen(argv)
    except UsageError as error:
        grammars = [one.GRAMMAR for one in entry.load()]
        if any(word[:1] in DASHES and "help".startswith(word.lstrip(DASHES) or "-") for word in argv):
            print("\n\n".join(grammar.help() for grammar in grammars))
            return EX_OK
        print(f"{name}: {error}", *(one.usage() for one in grammars), sep="\n", file=sys.stderr)
        return EX_USAGE
    try:
        options = command.GRAMMAR.parse(argv)
        if "help" in options:
            print(command.GRAMMAR.help())
            return EX_OK
        return command.run(Context(name, options))
    except UsageError as error:
        print(f"{name}: {error}\n{command.GRAMMAR.usage()}", file=sys.stderr)
        return EX_USAGE
    except CyrusSyncError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever was reading our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILURE
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EX_TEMPFAIL
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
