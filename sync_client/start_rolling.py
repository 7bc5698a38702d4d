"""``-r`` and ``-R``: the parts put together, signals, looks at intervals. Imported after any fork."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import sdnotify
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.reactor import installed
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.common.wire.certificates import client_files
from cyrus_sync.sync_client.channel import channel_warnings
from cyrus_sync.sync_client.facts import Settings
from cyrus_sync.sync_client.mending import INTERVAL, look_again
from cyrus_sync.sync_client.names import read_input
from cyrus_sync.sync_client.parts import Job, Parts, warn_of_certificates
from cyrus_sync.sync_client.quarantine import Quarantine
from cyrus_sync.sync_client.report import log
from cyrus_sync.sync_client.rivals import RIVALS_INTERVAL, Rival, rivals
from cyrus_sync.sync_client.rolling import Rolling
from cyrus_sync.sync_client.sources import ChannelSource, FileSource, Source, owner_of_line
from cyrus_sync.sync_client.status import StatusFile
from cyrus_sync.sync_client.until_done import until_done
from cyrus_sync.sync_client.watch import FileWatch, NoWatch


def rolling_settings(job: Job) -> Settings:
    """What the command line and the configuration say about rolling."""
    arguments, cfg = job.arguments, job.cfg
    shutdown = arguments.shutdown_file or cfg.string("sync_shutdown_file", job.channel)
    return Settings(
        delay=arguments.delay or cfg.duration("sync_repeat_interval", job.channel),
        timeout=arguments.timeout,
        keepalive=min(300.0, job.settings.idle_timeout / 2),
        maxwait=cfg.duration("sync_reconnect_maxwait", job.channel),
        shutdown_file=Path(shutdown) if shutdown else None,
        once=arguments.once or arguments.input_file is not None,
        connect_once=arguments.connect_once,
    )


def run_rolling(job: Job, reload: Callable[[], Job], works: Callable[[], None]) -> int:
    """``-r`` and ``-R``. `reload` reads the configuration anew at SIGHUP. `works` is called once it does."""
    reactor = installed()
    systemd = sdnotify.SystemdNotifier()

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        parts = Parts(job, reactor)
        source, watch = _source(job, parts)
        observer = None
        if job.arguments.input_file is None:
            observer = StatusFile(
                job.directory,
                job.arguments.channel,
                os.getpid(),
                reactor.seconds,
                lambda text: systemd.notify(f"STATUS={text}\nWATCHDOG=1"),
            )
        rolling = Rolling(
            clock=reactor,
            connector=parts.connector,
            source=source,
            settings=rolling_settings(job),
            blocking=parts.threads.run,
            watch=watch,
            observer=observer,
            facts=parts.facts,
            turn=parts.turn,
            measures=parts.measures,
            owner_of_uniqueid=parts.master.owner_of_uniqueid,
            report=parts.reporter.failure,
            say=lambda text: log.error("%s", text),
            random=random.random,
        )

        def hang_up() -> None:
            try:
                fresh = reload()
                parts.reconfigure_master(fresh.cfg)
            except CyrusSyncError as error:
                log.error("%s: going on with what was read before", error)
            else:
                parts.connector.settings = fresh.settings
                rolling.reconfigure(rolling_settings(fresh))
                log.info("read %s again", fresh.cfg.path)
                warn_of_certificates(fresh.settings)
            rolling.hurry()

        def stop() -> None:
            systemd.notify("STOPPING=1")
            rolling.stop(EX_TEMPFAIL)

        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hang_up))
        warn_of_certificates(job.settings)
        if job.arguments.input_file is None:
            for warning in channel_warnings(job.cfg, job.arguments.channel):
                log.warning("%s", warning)
        log.info("rolling replication to %s begins", parts.connector.server)
        ended = _behind_sweep(job, parts, rolling.run)
        if job.arguments.input_file is None and not job.arguments.once:
            _look_after_damage(job, parts)
            _look_for_rivals(job, parts)
            _tell_figures(job, parts, rolling)
        systemd.notify("READY=1")
        works()
        path = job.arguments.input_file
        if isinstance(source, FileSource) and path is not None:
            file = source
            ended.addCallback(lambda status: _with_what_was_read(status, file, path))
        return ended, stop

    return until_done(reactor, begin)


def _with_what_was_read(status: int, source: FileSource, path: str) -> int:
    """The exit status of a file that is worked through once: not 0 if lines of it, or all, were no work."""
    if status == EX_OK and not (source.pending() or source.read_lines or source.passed_over):
        where = "standard input" if path == "-" else path
        log.error("no lines in %s: nothing was done", where)
        return EX_FAILURE
    return status or (EX_FAILURE if source.passed_over else EX_OK)


def _look_after_damage(job: Job, parts: Parts) -> None:
    """At once, and at intervals."""
    sync_log = SyncLog(log_path(job.cfg, job.arguments.channel))

    def look() -> Deferred[None]:
        looked = parts.threads.run(look_again, parts.master, parts.withheld, sync_log)
        return looked.addErrback(lambda failure: log.error("cannot look after damage: %s", failure.value))

    _at_intervals(parts, look, INTERVAL)


def _look_for_rivals(job: Job, parts: Parts) -> None:
    """At intervals: one that is started after us is not refused by anybody. Each is told of once."""
    known: set[int] = set()

    def tell(found: list[Rival]) -> None:
        for rival in found:
            if rival.pid not in known:
                log.error("%s: lines are done twice, or by either; end one of both", rival)
        known.intersection_update(rival.pid for rival in found)
        known.update(rival.pid for rival in found)

    def look() -> Deferred[None]:
        looked = parts.threads.run(rivals, job.cfg, job.arguments.channel)
        told: Deferred[None] = looked.addCallback(tell)
        return told.addErrback(lambda failure: log.error("cannot look for others: %s", failure.value))

    _at_intervals(parts, look, RIVALS_INTERVAL)


def _at_intervals(parts: Parts, look: Callable[[], Deferred[None]], seconds: float) -> None:
    """From now on, as long as the process lives."""
    ticker = LoopingCall(look)
    ticker.clock = cast(Any, parts.reactor)
    ticker.start(seconds, now=True)

    def stop() -> None:
        if ticker.running:
            ticker.stop()

    parts.reactor.addSystemEventTrigger("before", "shutdown", stop)


def _tell_figures(job: Job, parts: Parts, rolling: Rolling) -> None:
    """To whoever watches, if imapd.conf says so."""
    metrics = MetricsSettings.from_config(job.cfg, "client", job.channel)
    if not metrics:
        return
    from cyrus_sync.common.metrics.exporter import Exporter
    from cyrus_sync.sync_client.figures import ClientFigures, channel_label

    figures = ClientFigures(
        job.cfg,
        rolling,
        parts.withheld,
        job.directory,
        log_path(job.cfg, job.arguments.channel),
        lambda: parts.connector.traffic,
        lambda: client_files(parts.connector.settings.tls) if not parts.connector.settings.path else [],
        parts.add_figures,
    )
    label = channel_label(job.arguments.channel)
    exporter = Exporter(parts.reactor, parts.threads, metrics, figures.look, "sync_client", channel=label)
    exporter.begin()
    parts.reactor.addSystemEventTrigger("before", "shutdown", exporter.end)


def _behind_sweep(job: Job, parts: Parts, run: Callable[[], Deferred[int]]) -> Deferred[int]:
    """Write what earlier changes have left over for the log; the first run follows at once, a single one
    (``-1``) when that is done, so that it finds the lines."""
    if job.arguments.input_file is not None:
        return run()
    stop = threading.Event()
    parts.reactor.addSystemEventTrigger("before", "shutdown", stop.set)
    swept = parts.threads.run(parts.sweep, stop)
    swept.addErrback(lambda failure: log.error("cannot look for lines left over: %s", failure.value))
    return swept.addCallback(lambda _: run()) if job.arguments.once else run()


def _source(job: Job, parts: Parts) -> tuple[Source, Any]:
    log_file = SyncLog(log_path(job.cfg, job.arguments.channel))
    path = job.arguments.input_file
    if path is not None:

        def reject(line: str, reason: str) -> None:
            log.error("log line passed over: %s: %s", reason, line)

        defer = log_file if job.arguments.channel else None
        return FileSource(lambda: read_input(path), reject, defer), NoWatch()
    make_directories(log_file.path.parent)
    quarantine = Quarantine(job.directory, parts.reactor.seconds, owner_of_line)
    quarantine.load()
    return ChannelSource(log_file, quarantine), FileWatch(parts.reactor, log_file.path)
