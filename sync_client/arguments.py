"""The command line of sync_client: every option, checked, as one value.

Options are those of sync_client(8) with the long names of Cyrus 3.8, and ``--status``, ``--compare`` and
``--verify-report`` of our own.
Exactly one mode must be chosen. What is wrong with a command line raises `UsageError` (exit status 64).
"""

from __future__ import annotations

import argparse
import enum
import re
from collections.abc import Sequence

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import Parser, add_version
from cyrus_sync.common.config.config import DEFAULT_PATH
from cyrus_sync.common.config.values import duration
from cyrus_sync.common.errors import UsageError
from cyrus_sync.sync_client.channel import check_channel

EPILOG = """\
modes (exactly one):
  -u, -m, -A, -s    replicate users, mailboxes, everybody, users' meta-data, and end
  -r, -R            rolling: replicate whatever the action log names, until stopped
  --status          how rolling replication fares, or that of users who are
                    named; exit status fit for Nagios
  --compare         are both ends the same? Users, or everybody; changes nothing
  --drain           takes no more changes here, and sees that the replica has all
  --verify-report   is a report of --compare as it was signed?

exit status:
  0   everything was done; or rolling replication was stopped by its shutdown file
  1   something could not be replicated, is on neither side, or on the replica
      alone; there is nobody here; or there is no connection; with --compare: a
      difference; with --verify-report: the report cannot be believed
  64  usage error        70  no server is configured       78  bad configuration
  75  stopped by a signal, or another client works on the channel
"""


class Mode(enum.Enum):
    USERS = "-u"
    MAILBOXES = "-m"
    ALL = "-A"
    META = "-s"
    ROLLING = "-r"
    STATUS = "--status"
    COMPARE = "--compare"
    VERIFY_REPORT = "--verify-report"
    DRAIN = "--drain"


@dataclass(frozen=True, slots=True)
class Arguments:
    """A checked command line. Times in seconds; None where the option was not given."""

    mode: Mode
    names: tuple[str, ...]
    config: str
    server: str | None
    channel: str
    channel_given: bool
    input_file: str | None
    shutdown_file: str | None
    delay: int | None
    timeout: int
    startup_wait: int
    foreground: bool
    once: bool
    connect_once: bool
    no_copyback: bool
    skip_locked: bool
    partition: str
    local_only: bool
    compress: bool
    require_compression: bool
    stage_to_archive: bool
    verbose: int
    verbose_logging: bool
    format: str
    warning: int
    critical: int
    everybody: bool
    records: bool
    messages: bool
    owners_a_second: float
    octets_a_second: int
    anew: bool
    report: str | None
    key: str | None


def parser() -> argparse.ArgumentParser:
    """The parser, for `parse` and the manual page's test."""
    p = Parser(
        prog="sync_client",
        description="Replicate mail to a server that runs sync_server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=True,
    )
    mode = p.add_argument_group("mode")
    mode.add_argument("-u", "--userids", dest="users", action="store_true", help="users")
    mode.add_argument("-m", "--mailboxes", action="store_true", help="mailboxes (user/alice/Work)")
    mode.add_argument(
        "-A",
        "--all-users",
        action="store_true",
        help="everybody, or from one prefix on",
    )
    mode.add_argument(
        "-s", "--sieve-mode", dest="meta", action="store_true", help="users' Sieve, seen, subscriptions"
    )
    mode.add_argument("-r", "--rolling", action="store_true", help="rolling, in the background")
    mode.add_argument("-R", "--foreground-rolling", action="store_true", help="rolling, in the foreground")
    mode.add_argument("--status", action="store_true", help="the state of all channels (-n: one), or users")
    mode.add_argument("--compare", action="store_true", help="are both ends the same? (with -A: everybody)")
    mode.add_argument(
        "--drain", action="store_true", help="take no more changes; see that the replica has all"
    )
    mode.add_argument("--verify-report", dest="report", metavar="FILE", help="check a report's signature")
    where = p.add_argument_group("where and how to connect")
    where.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_PATH, help="imapd.conf")
    where.add_argument("-S", "--server", metavar="SERVER", help="instead of sync_host")
    where.add_argument("-n", "--channel", metavar="CHANNEL", help="log and options of it")
    where.add_argument("-o", "--connect-once", action="store_true", help="try to connect once only")
    where.add_argument("-z", dest="compress", action="store_true", help="ask for compression")
    where.add_argument("--require-compression", action="store_true", help="compression or nothing")
    where.add_argument("-a", "--stage-to-archive", action="store_true", help="ask for REPLICATION-ARCHIVE")
    what = p.add_argument_group("what to do")
    what.add_argument("-f", "--input-file", metavar="FILE", help="names, or a log to do once; - is stdin")
    what.add_argument("-O", "--no-copyback", action="store_true", help="this side is always right")
    what.add_argument("-N", "--skip-locked", action="store_true", help="do not wait for locked users")
    what.add_argument("-p", "--dest-partition", dest="partition", metavar="PARTITION")
    what.add_argument("-L", "--local-only", action="store_true", help="LOCAL_ commands: do not tell a Murder")
    rolling = p.add_argument_group("rolling")
    rolling.add_argument("-1", "--rolling-once", dest="once", action="store_true", help="one log, then end")
    rolling.add_argument("-d", "--delay", metavar="N", help="least seconds between two runs (3)")
    rolling.add_argument("-t", "--timeout", metavar="N", help="renew connection after (600)")
    rolling.add_argument("-F", "--shutdown-file", metavar="FILE", help="stop when it appears")
    talk = p.add_argument_group("what to say")
    talk.add_argument("-v", "--verbose", action="count", default=0, help="operations; twice: the protocol")
    talk.add_argument("-l", "--verbose-logging", action="store_true", help="operations to syslog")
    talk.add_argument("-w", "--delayed-startup", metavar="N", help="wait before starting")
    comparing = p.add_argument_group("with --compare and --verify-report")
    comparing.add_argument("--records", action="store_true", help="record by record")
    comparing.add_argument("--messages", action="store_true", help="and by what is stored: read at both ends")
    comparing.add_argument("--rate", metavar="RATE", help="users a second (50), or octets of messages (20M)")
    comparing.add_argument("--anew", action="store_true", help="forget what an interrupted run has compared")
    comparing.add_argument("--key", metavar="KEY", help="whose report it has to be: public key, or file")
    state = p.add_argument_group("with --status and --compare")
    state.add_argument("--format", choices=("text", "json", "yaml"))
    state.add_argument("--warning", metavar="N", help="age of oldest change (60)")
    state.add_argument("--critical", metavar="N", help="the same (600)")
    add_version(p)
    p.add_argument("names", nargs="*", metavar="NAME", help="what the mode works on")
    return p


def parse(argv: Sequence[str]) -> Arguments:
    """`argv` without the program's name. Raises `UsageError`; ``--help`` ends with SystemExit(0)."""
    given = parser().parse_intermixed_args(list(argv))
    mode = _mode(given)
    _check(given, mode)
    owners, octets = _rate(given.rate)
    return Arguments(
        mode=mode,
        names=tuple(given.names),
        config=given.config,
        server=given.server,
        channel=check_channel(given.channel or ""),
        channel_given=given.channel is not None,
        input_file=given.input_file,
        shutdown_file=given.shutdown_file,
        delay=None if given.delay is None else _seconds("-d", given.delay),
        timeout=_seconds("-t", given.timeout or "600"),
        startup_wait=_seconds("-w", given.delayed_startup or "0"),
        foreground=given.foreground_rolling,
        once=given.once,
        connect_once=given.connect_once,
        no_copyback=given.no_copyback,
        skip_locked=given.skip_locked,
        partition=given.partition or "",
        local_only=given.local_only,
        compress=given.compress or given.require_compression,
        require_compression=given.require_compression,
        stage_to_archive=given.stage_to_archive,
        verbose=given.verbose,
        verbose_logging=given.verbose_logging,
        format=given.format or "text",
        warning=_seconds("--warning", given.warning or "60"),
        critical=_seconds("--critical", given.critical or "600"),
        everybody=given.compare and not given.users and (given.all_users or not _named(given)),
        records=given.records,
        messages=given.messages,
        owners_a_second=owners,
        octets_a_second=octets,
        anew=given.anew,
        report=given.report,
        key=given.key,
    )


_MODES = "-u -m -A -s -r -R --status --compare --drain --verify-report"


def _mode(given: argparse.Namespace) -> Mode:
    chosen = [
        mode
        for mode, wanted in (
            (Mode.USERS, given.users and not given.compare),
            (Mode.MAILBOXES, given.mailboxes),
            (Mode.ALL, given.all_users and not given.compare),
            (Mode.META, given.meta),
            (Mode.ROLLING, given.rolling),
            (Mode.ROLLING, given.foreground_rolling),
            (Mode.STATUS, given.status),
            (Mode.COMPARE, given.compare),
            (Mode.VERIFY_REPORT, given.report is not None),
            (Mode.DRAIN, given.drain),
        )
        if wanted
    ]
    if not chosen:
        raise UsageError(f"no mode: give one of {_MODES}")
    if len(chosen) > 1:
        raise UsageError(f"more than one mode: give one of {_MODES}")
    return chosen[0]


def _named(given: argparse.Namespace) -> bool:
    return bool(given.names) or given.input_file is not None


def _check(given: argparse.Namespace, mode: Mode) -> None:
    if mode in (Mode.USERS, Mode.MAILBOXES, Mode.META) and not _named(given):
        raise UsageError(f"{mode.value} needs names, as arguments or from a file (-f)")
    if mode is Mode.ALL and len(given.names) > 1:
        raise UsageError("-A takes one prefix at most")
    if mode is Mode.ALL and given.input_file is not None:
        raise UsageError("-A and -f exclude each other")
    if mode is Mode.COMPARE:
        _check_comparison(given)
    if mode in (Mode.ROLLING, Mode.VERIFY_REPORT, Mode.DRAIN) and given.names:
        raise UsageError(f"{mode.value} takes no names, but '{given.names[0]}' was given")
    for option, name, modes, wanted in _MEANINGS:
        value = getattr(given, name)
        if value == "" and name != "channel":
            raise UsageError(f"{option} needs a value, but '' was given")
        if value not in (None, False, 0) and mode not in modes:
            raise UsageError(f"{option} means nothing with {mode.value}: it goes with {wanted}")


def _check_comparison(given: argparse.Namespace) -> None:
    if given.all_users and given.users:
        raise UsageError("-A and -u exclude each other")
    if given.all_users and len(given.names) > 1:
        raise UsageError("-A takes one prefix at most")
    if given.all_users and given.input_file is not None:
        raise UsageError("-A and -f exclude each other")
    if given.users and not _named(given):
        raise UsageError("-u needs names, as arguments or from a file (-f)")
    if given.format == "yaml":
        raise UsageError("--compare reports as text or json")


_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMgG]?)")
_POWER = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _rate(text: str | None) -> tuple[float, int]:
    """Owners a second and octets a second; 0 = as fast as it goes."""
    if text is None:
        return 0.0, 0
    found = _RATE.fullmatch(text)
    if found is None or not float(found[1]):
        raise UsageError(f"--rate: '{text}' is neither users a second (50) nor octets a second (20M)")
    if found[2]:
        return 0.0, max(1, int(float(found[1]) * _POWER[found[2].lower()]))
    return float(found[1]), 0


_REPLICATING = frozenset(Mode) - {Mode.STATUS, Mode.COMPARE, Mode.VERIFY_REPORT, Mode.DRAIN}
_WORKING = _REPLICATING | {Mode.COMPARE}
_CONNECTING = _WORKING | {Mode.DRAIN}
_MAILBOXES = _CONNECTING - {Mode.META}
_COMPARE = frozenset({Mode.COMPARE})
_ROLLING = frozenset({Mode.ROLLING})
_STATUS = frozenset({Mode.STATUS})
_TELLING = _STATUS | _COMPARE
_WORK = "what replicates"

_MEANINGS: tuple[tuple[str, str, frozenset[Mode], str], ...] = (
    ("-S", "server", frozenset(Mode), _WORK),
    ("-o", "connect_once", _CONNECTING, _WORK),
    ("-z", "compress", _WORKING, _WORK),
    ("--require-compression", "require_compression", _WORKING, _WORK),
    ("-a", "stage_to_archive", _REPLICATING, _WORK),
    ("-f", "input_file", _WORKING, _WORK),
    ("-O", "no_copyback", _REPLICATING, _WORK),
    ("-N", "skip_locked", _REPLICATING, _WORK),
    ("-p", "partition", _MAILBOXES, "what replicates mailboxes"),
    ("-L", "local_only", _REPLICATING, _WORK),
    ("-1", "once", _ROLLING, "-R or -r"),
    ("-d", "delay", _ROLLING, "-R or -r"),
    ("-t", "timeout", _ROLLING, "-R or -r"),
    ("-F", "shutdown_file", _ROLLING, "-R or -r"),
    ("-v", "verbose", _WORKING, _WORK),
    ("-l", "verbose_logging", _WORKING, _WORK),
    ("-w", "delayed_startup", _WORKING, _WORK),
    ("--format", "format", _TELLING, "--status and --compare"),
    ("--warning", "warning", _STATUS, "--status"),
    ("--critical", "critical", _STATUS, "--status"),
    ("--records", "records", _COMPARE, "--compare"),
    ("--messages", "messages", _COMPARE, "--compare"),
    ("--rate", "rate", _COMPARE, "--compare"),
    ("--anew", "anew", _COMPARE, "--compare"),
    ("--key", "key", frozenset({Mode.VERIFY_REPORT}), "--verify-report"),
)
"""Of each option, its name in what is parsed, the modes in which it has a meaning, and those in words."""


def _seconds(option: str, text: str) -> int:
    """A number of seconds, or with a unit as in imapd.conf (``10m``)."""
    try:
        seconds = duration(text, "s")
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if seconds < 0:
        raise UsageError(f"{option}: '{text}' is negative")
    return seconds
