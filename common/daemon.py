"""What every daemon of `cyrus-sync` does between its start and a signal."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import sdnotify

from cyrus_sync.common.logs import start_logging
from cyrus_sync.common.reactor import Reactor


class _Strings(Protocol):
    """What is read of a configuration."""

    def string(self, name: str, channel: str | None = None) -> str | None: ...


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """``-v`` and ``-e``, which `log_as_told` reads."""
    parser.add_argument("-v", dest="verbose", action="store_true", help="log more")
    parser.add_argument(
        "-e",
        dest="stderr",
        action="store_true",
        help="log to stderr, not to syslog (so on a terminal anyway)",
    )


def log_as_told(ident: str, args: argparse.Namespace, config: _Strings) -> None:
    """Start the log of the process, as its command line and imapd.conf say."""
    start_logging(
        ident,
        to_stderr=args.stderr or sys.stderr.isatty(),
        verbose=args.verbose,
        facility=config.string("syslog_facility") or "mail",
        prefix=config.string("syslog_prefix") or "",
    )


def run_until_signal(
    reactor: Reactor,
    log: logging.Logger,
    *,
    begin: Callable[[], Sequence[str]],
    reload: Callable[[], object],
    stop: Callable[[], object],
) -> None:
    """Run the reactor. `begin` is called in it and returns where is listened; `reload` at SIGHUP; `stop` at
    SIGTERM and SIGINT, and is to stop the reactor. systemd hears of each."""
    systemd = sdnotify.SystemdNotifier()

    def stopped(number: int) -> None:
        log.info("%s: stopping", signal.Signals(number).name)
        systemd.notify("STOPPING=1")
        stop()

    def reloaded() -> None:
        systemd.notify("RELOADING=1")
        reload()
        systemd.notify("READY=1")

    def started() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _frame: reactor.callFromThread(stopped, n))
        signal.signal(signal.SIGHUP, lambda _n, _frame: reactor.callFromThread(reloaded))
        systemd.notify("READY=1\nSTATUS=listening on " + ", ".join(begin()))

    reactor.callWhenRunning(started)
    reactor.run(installSignalHandlers=False)
