"""lmtp: take mail by LMTP (RFC 2033) into this store, until a signal.

A mail server (Postfix, Exim) delivers into it as into Cyrus's lmtpd: the same addresses, answers, quotas.
What was answered 250 is on the disk. lmtp_journal keeps each message a second time, with its envelope. Sieve
scripts are not executed: who has an active one is named at the start. A store that is a replica, or is being
drained, takes no mail: the mail server tries again. Who may deliver: UNIX sockets, the addresses of
lmtp_trusted, and administrators who log in.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.config import Config
from cyrus_sync.common.daemon import add_log_arguments, log_as_told, run_until_signal
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_OK, CyrusSyncError
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.lmtp.server import Server
from cyrus_sync.lmtp.service import Service
from cyrus_sync.lmtp.settings import Settings

if TYPE_CHECKING:
    from cyrus_sync.common.metrics.exporter import Exporter

log = logging.getLogger("lmtp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_log_arguments(parser)


def run(args: argparse.Namespace) -> int:
    config = Config.load(args.config, program="lmtp")
    settings = Settings.from_config(config)
    metrics = MetricsSettings.from_config(config, "lmtp")
    log_as_told("cyrus-sync-lmtp", args, config)
    try:
        return serve(config, settings, metrics)
    except CyrusSyncError as error:
        log.critical("%s", error)
        raise


def serve(config: Config, settings: Settings, metrics: MetricsSettings) -> int:
    """Until a signal."""
    few_arenas()
    raise_soft_limit()
    reactor = installed()
    if os.geteuid() == 0:
        log.warning("running as root: what is written now, the user of the store cannot read")
    service = Service.open(config, settings, reactor)
    server = Server(service)
    tell = _exporter(config, metrics, service, server, reactor)
    try:
        server.open(settings.listen)

        def begin() -> list[str]:
            reason = service.refuses_changes()
            if reason:
                log.warning("all mail is answered 451 for now: %s", reason)
            server.say_what_is_not_done()
            if tell is not None:
                tell.begin()
            return server.where

        def stop() -> None:
            server.stop().addBoth(lambda _: reactor.stop())

        run_until_signal(reactor, log, begin=begin, reload=service.reload_certificates, stop=stop)
    finally:
        if tell is not None:
            tell.end()
        service.close()
    log.info("stopped")
    return EX_OK


def _exporter(
    config: Config, metrics: MetricsSettings, service: Service, server: Server, reactor: Reactor
) -> Exporter | None:
    """Who tells our figures, if imapd.conf wants that."""
    if not metrics:
        return None
    from cyrus_sync.common.metrics.exporter import Exporter
    from cyrus_sync.lmtp.figures import LmtpFigures

    figures = LmtpFigures(config, service, server, reactor.seconds())
    return Exporter(reactor, service.threads, metrics, figures.look, "lmtp")
