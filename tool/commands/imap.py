"""imap: serve the mail of this store read-only over IMAP4rev1, until a signal.

For the hours in which the mail server is gone: users read on with the folders, UIDs and flags that they had,
and their mail programs need not fetch anything anew. Every change is answered NO [READ-ONLY]. Users log in
as sasl_pwcheck_method says, with saslauthd or the password file; an administrator (admins) may log in for
anybody by SASL PLAIN. sync_server may run beside it: what it receives is seen.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

import sdnotify

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_OK, CyrusSyncError
from cyrus_sync.common.logs import start_logging
from cyrus_sync.common.reactor import installed
from cyrus_sync.lifeboat.server import Server
from cyrus_sync.lifeboat.service import Lifeboat
from cyrus_sync.lifeboat.settings import Ports

log = logging.getLogger("lifeboat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", dest="verbose", action="store_true", help="log more")
    parser.add_argument(
        "-e",
        dest="stderr",
        action="store_true",
        help="log to stderr, not to syslog (so on a terminal anyway)",
    )


def run(args: argparse.Namespace) -> int:
    config = Config.load(args.config, program="imap")
    ports = Ports.from_config(config)
    start_logging(
        "cyrus-sync-imap",
        to_stderr=args.stderr or sys.stderr.isatty(),
        verbose=args.verbose,
        facility=config.string("syslog_facility") or "mail",
        prefix=config.string("syslog_prefix") or "",
    )
    try:
        return serve(config, ports)
    except CyrusSyncError as error:
        log.critical("%s", error)
        raise


def serve(config: Config, ports: Ports) -> int:
    """Until a signal."""
    few_arenas()
    raise_soft_limit()
    reactor = installed()
    if os.geteuid() == 0:
        log.warning("running as root; a user that may read the store is enough where the ports permit it")
    boat = Lifeboat.open(config, reactor)
    server = Server(boat)
    systemd = sdnotify.SystemdNotifier()
    try:
        server.open(ports)

        def stop(number: int) -> None:
            log.info("%s: stopping", signal.Signals(number).name)
            systemd.notify("STOPPING=1")
            server.stop().addBoth(lambda _: reactor.stop())

        def reload() -> None:
            systemd.notify("RELOADING=1")
            boat.reload_certificates()
            systemd.notify("READY=1")

        def started() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda n, _frame: reactor.callFromThread(stop, n))
            signal.signal(signal.SIGHUP, lambda _n, _frame: reactor.callFromThread(reload))
            boat.look_for_shared()
            systemd.notify("READY=1\nSTATUS=listening on " + ", ".join(server.where))

        reactor.callWhenRunning(started)
        reactor.run(installSignalHandlers=False)
    finally:
        boat.close()
    log.info("stopped")
    return EX_OK
