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

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.config import Config
from cyrus_sync.common.daemon import add_log_arguments, log_as_told, run_until_signal
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_OK, CyrusSyncError
from cyrus_sync.common.reactor import installed
from cyrus_sync.lifeboat.server import Server
from cyrus_sync.lifeboat.service import Lifeboat
from cyrus_sync.lifeboat.settings import Ports

log = logging.getLogger("lifeboat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_log_arguments(parser)


def run(args: argparse.Namespace) -> int:
    config = Config.load(args.config, program="imap")
    ports = Ports.from_config(config)
    log_as_told("cyrus-sync-imap", args, config)
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
    try:
        server.open(ports)

        def begin() -> list[str]:
            boat.look_for_shared()
            return server.where

        def stop() -> None:
            server.stop().addBoth(lambda _: reactor.stop())

        run_until_signal(reactor, log, begin=begin, reload=boat.reload_certificates, stop=stop)
    finally:
        boat.close()
    log.info("stopped")
    return EX_OK
