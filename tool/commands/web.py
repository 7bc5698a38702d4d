"""web: show how replication fares on this host as a page for browsers, until a signal.

The page has what is wrong, and what to type in each case; all channels, with how far behind they were within
the last day; who is set aside, why and until when; packets and siblings; disks, certificates and the scrub
of the store; and what has changed lately. It only reads. It works without JavaScript, and with it follows by
itself.

Where it listens is said by sync_web_listen, 127.0.0.1:9780 if it is not set. What is reached from this host
alone needs no login. From other hosts it takes TLS (tls_server_cert, tls_server_key), and the password of an
administrator (admins) in the password file of mailstore passwd.

/metrics tells Prometheus what no daemon does: packets, bays, and the scrub.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.config import Config
from cyrus_sync.common.daemon import add_log_arguments, log_as_told, run_until_signal
from cyrus_sync.common.errors import EX_OK, CyrusSyncError
from cyrus_sync.common.reactor import installed
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.web.service import Web
from cyrus_sync.web.settings import Places

log = logging.getLogger("cyrus-sync-web")

THREADS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help="instead of sync_web_listen: a port of the loopback interface, host:port, or a UNIX socket",
    )
    add_log_arguments(parser)


def run(args: argparse.Namespace) -> int:
    config = Config.load(args.config, program="web")
    places = Places.from_config(config, args.listen)
    log_as_told("cyrus-sync-web", args, config)
    try:
        return serve(config, places)
    except CyrusSyncError as error:
        log.critical("%s", error)
        raise


def serve(config: Config, places: Places) -> int:
    """Until a signal."""
    few_arenas()
    reactor = installed()
    if os.geteuid() == 0:
        log.warning("running as root; the user to whom the mail belongs is enough")
    shown = Web(config, reactor, ThreadRunner(reactor, THREADS, "web"))
    shown.open(places)

    def begin() -> Sequence[str]:
        shown.begin()
        return shown.where

    reactor.addSystemEventTrigger("before", "shutdown", shown.end)
    run_until_signal(reactor, log, begin=begin, reload=shown.reload_certificates, stop=reactor.stop)
    log.info("stopped")
    return EX_OK
