"""sync_server: the command. Reads the configuration, opens store and ports, runs until a signal.

Options are those of sync_server(8) of Cyrus; unlike there it needs no master process: it stays in the
foreground and listens itself, the way systemd wants a service (`READY=1` when it listens, `STOPPING=1`).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sdnotify
from twisted.internet.defer import Deferred

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.commands import Parser, add_version, run_command
from cyrus_sync.common.config import Config
from cyrus_sync.common.config.kept import tighten_kept
from cyrus_sync.common.descriptors import raise_soft_limit, share_out
from cyrus_sync.common.errors import EX_OK, EX_SOFTWARE, CyrusSyncError
from cyrus_sync.common.logs import start_logging
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.sync_server.listener import Listeners
from cyrus_sync.sync_server.service import Service
from cyrus_sync.sync_server.settings import ServerSettings
from cyrus_sync.sync_server.supervisor import Share, Supervisor

if TYPE_CHECKING:
    from cyrus_sync.common.metrics.exporter import Exporter

log = logging.getLogger("sync_server")

_M_ARENA_MAX = -8
"""mallopt(3)"""

_A_DAY = 24 * 3600.0

DEFAULT_CONFIG = "/etc/imapd.conf"

_EPILOG = """\
signals:
  TERM, INT  finish what is running, say BYE to the clients, stop (exit status 0)
  HUP        read the TLS certificates again; with sync_workers, imapd.conf too, in new workers

exit status:
  0   stopped by a signal
  64  the command line makes no sense
  70  an internal error
  75  the mail store cannot be opened now
  78  imapd.conf has a bad value, or an address cannot be listened on
"""


def _ssf(text: str) -> int:
    bits = decimal(text, 10000)
    if bits is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a strength in bits")
    return bits


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = Parser(
        prog="sync_server",
        description="Be the replica: take what sync_client of another machine sends, and keep it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-C", dest="config", metavar="FILE", default=DEFAULT_CONFIG, help="imapd.conf to read")
    made.add_argument(
        "-p",
        dest="ssf",
        metavar="SSF",
        type=_ssf,
        default=0,
        help="strength in bits of a protection from outside (ssh, stunnel): 1 = integrity, more = privacy",
    )
    made.add_argument(
        "-f", dest="historic", action="store_true", help="accepted and without effect, as in Cyrus"
    )
    made.add_argument("-v", dest="verbose", action="store_true", help="log every command")
    made.add_argument(
        "-e",
        dest="stderr",
        action="store_true",
        help="log to stderr, not to syslog (so on a terminal anyway)",
    )
    add_version(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit status."""
    return run_command("sync_server", _run, argv)


def _run(words: list[str]) -> int:
    options = parser().parse_args(words)
    config = Config.load(options.config, program="sync_server")
    settings = ServerSettings.from_config(config, options.ssf)
    start_logging(
        "sync_server",
        to_stderr=options.stderr or sys.stderr.isatty(),
        verbose=options.verbose,
        facility=settings.facility,
        prefix=settings.syslog_prefix,
    )
    os.umask(0o077)
    _share_memory()
    try:
        if settings.workers > 1:
            return _supervise(options)
        return run(config, settings)
    except CyrusSyncError as error:
        log.critical("%s", error)
        raise
    except Exception:
        log.critical("internal error", exc_info=True)
        return EX_SOFTWARE


def _supervise(options: argparse.Namespace) -> int:
    def load() -> tuple[Config, ServerSettings]:
        config = Config.load(options.config, program="sync_server")
        return config, ServerSettings.from_config(config, options.ssf)

    return Supervisor(load, run).run()


def _share_memory() -> None:
    """glibc keeps freed memory in an arena per thread; with few arenas the threads use each other's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _say_what_fits(service: Service) -> None:
    shares, most = share_out(), service.places.most
    log.info(
        "%d open files are permitted: %d connections fit, %d are kept for administrators, %d may be of one"
        " address, %d not logged in (%d of one address); %d threads, %d users kept open",
        *(shares.limit, most.connections, most.kept, most.per_address),
        *(most.strangers, most.strangers_per_address, shares.threads, shares.owners),
    )
    if most.connections < service.settings.max_connections:
        log.warning(
            "sync_max_connections: %d connections do not fit %d open files (LimitNOFILE=, ulimit -n)",
            *(service.settings.max_connections, shares.limit),
        )


def _exporter(config: Config, service: Service, reactor: Reactor, share: Share | None) -> Exporter | None:
    """Who tells our figures, if imapd.conf wants that. Raises `ConfigError`."""
    metrics = MetricsSettings.from_config(config, "server")
    if share is not None:
        metrics = metrics.of_worker(share.number)
    if not metrics:
        return None
    from cyrus_sync.common.metrics.exporter import Exporter
    from cyrus_sync.sync_server.figures import ServerFigures

    figures = ServerFigures(config, service, reactor.seconds())
    labels = {} if share is None else {"worker": str(share.number)}
    return Exporter(reactor, service.threads, metrics, figures.look, "sync_server", **labels)


def run(config: Config, settings: ServerSettings, share: Share | None = None) -> int:
    """Open everything, serve until a signal, close everything; with a `share`, as one of several
    processes."""
    if share is not None:
        settings = settings.share_of(share.workers)
    few_arenas()
    raise_soft_limit()
    reactor = installed()
    if os.geteuid() == 0 and (share is None or share.number == 1):
        log.warning("running as root; a user that owns the store's directories is enough")
    tighten_kept(config)
    service = Service.open(config, settings, reactor)
    _say_what_fits(service)
    systemd = sdnotify.SystemdNotifier()
    listeners = Listeners(service)
    tell = _exporter(config, service, reactor, share)
    try:
        if share is None:
            listeners.open(settings.listen)
        stopping = False

        def stop(number: int) -> None:
            nonlocal stopping
            if stopping:
                return
            stopping = True
            log.info("%s: stopping, %d connections", signal.Signals(number).name, len(service.sessions))
            systemd.notify("STOPPING=1")
            done: Deferred[None] = listeners.stop()
            done.addBoth(lambda _: reactor.stop())

        def reload() -> None:
            systemd.notify("RELOADING=1")
            service.reload_certificates()
            systemd.notify("READY=1")

        def look_daily() -> None:
            service.look_at_certificates()
            reactor.callLater(_A_DAY, look_daily)

        def started() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda n, _frame: reactor.callFromThread(stop, n))
            signal.signal(signal.SIGHUP, lambda _n, _frame: reactor.callFromThread(reload))
            if share is not None:
                listeners.open_dispatched(share.control, lambda: stop(signal.SIGTERM))
            systemd.notify("READY=1\nSTATUS=listening on " + ", ".join(listeners.where))
            log.info("ready: %s", settings.banner)
            if tell is not None:
                tell.begin()
                reactor.addSystemEventTrigger("before", "shutdown", tell.end)
            look_daily()

        reactor.callWhenRunning(started)
        reactor.run(installSignalHandlers=False)
    finally:
        service.close()
    log.info("stopped")
    return EX_OK


if __name__ == "__main__":
    sys.exit(main())
