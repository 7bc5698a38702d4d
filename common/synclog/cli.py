"""cyr_synclog(8): append one line to the action log by hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cyrus_sync.common.commands import Parser, add_version, complain, run_command
from cyrus_sync.common.config import DEFAULT_PATH, Config
from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.names import BadName
from cyrus_sync.common.synclog.lines import UnloggableName, check_line, format_line, parse_lines
from cyrus_sync.common.synclog.writer import ActionLog

FLAGS = {
    "u": ("USER", "replicate this user completely"),
    "U": ("UNUSER", "this user was removed"),
    "v": ("META", "subscriptions, seen state and Sieve scripts of this user changed"),
    "m": ("MAILBOX", "this mailbox changed"),
    "M": ("UNMAILBOX", "this mailbox was removed"),
    "q": ("QUOTA", "the limits of this quota root changed"),
    "n": ("ANNOTATION", 'annotations of this mailbox changed ("" = the server\'s)'),
    "s": ("SEEN", "VALUE the userid, VALUE2 the uniqueid of the mailbox"),
    "b": ("SUB", "VALUE the userid, VALUE2 the mailbox that was subscribed or unsubscribed"),
}

EXIT_STATUS = """\
EXIT STATUS
  0   the line is in the log of every channel (or sync_log is off: then a warning says so)
  64  the command line makes no sense, or a name is none that there can be
  75  the log could not be written
  78  the configuration is bad
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="cyr_synclog",
        description="Append a line to the action log of every channel, as a mail daemon does when it has "
        "changed something. Mailbox names are internal ones (user.alice.Work). Without one of the flags, "
        "VALUE is the whole line.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf to read")
    add_version(found)
    kinds = found.add_mutually_exclusive_group()
    for letter, (kind, text) in FLAGS.items():
        kinds.add_argument(
            f"-{letter}", dest="kind", action="store_const", const=kind, help=f"{kind}: {text}"
        )
    for letter in "ac":
        found.add_argument(f"-{letter}", dest="ignored", action="store_true", help="accepted and ignored")
    found.add_argument("value", metavar="VALUE", help="userid, mailbox, quota root, or the whole line")
    found.add_argument("second", metavar="VALUE2", nargs="?", help="for -s and -b")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    return run_command("cyr_synclog", _run, argv, usage=lambda: parser().format_usage())


def _run(words: list[str]) -> int:
    args = parser().parse_args(words)
    line = _line(args)
    try:
        format_line(*line)
        check_line(*line)
    except (ValueError, UnloggableName, BadName) as error:
        raise UsageError(str(error)) from None
    log = ActionLog.from_config(Config.load(args.config, "cyr_synclog"))
    if not log:
        complain("cyr_synclog", "sync_log is off: nothing was logged")
    log.write([line])
    return EX_OK


def _line(args: argparse.Namespace) -> tuple[str, ...]:
    values = [value for value in (args.value, args.second) if value is not None]
    if args.kind:
        return (args.kind, *values)
    if len(values) != 1:
        raise UsageError("without a flag, the whole line is one argument (quote it for the shell)")
    problems: list[str] = []
    data = args.value.encode("utf-8", "surrogateescape")
    found = parse_lines(data, lambda line, problem: problems.append(problem))
    if problems or len(found) != 1:
        raise UsageError(f"not a line of the action log: {problems[0] if problems else 'not one line'}")
    return (found[0].type, *found[0].args)


if __name__ == "__main__":
    sys.exit(main())
