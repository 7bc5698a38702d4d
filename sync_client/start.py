"""Putting the parts together: store, threads, connector, loop, signals. Imported after any fork.

This is the only place of the package that knows the global reactor.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import sdnotify
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import LostOutput
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.master import Master
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.progress import Meter, progress
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.common.stores.turns import Turns
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.common.wire.certificates import client_files, client_warnings
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client import oneshot
from cyrus_sync.sync_client.arguments import Arguments, Mode
from cyrus_sync.sync_client.backoff import ONE_SHOT_PATIENCE
from cyrus_sync.sync_client.channel import channel_directory, channel_warnings
from cyrus_sync.sync_client.connecting import WireConnector
from cyrus_sync.sync_client.engine import Options
from cyrus_sync.sync_client.engine.all_users import read_everybody
from cyrus_sync.sync_client.engine.left_out import FILE, LeftOut
from cyrus_sync.sync_client.engine.options import BATCH_BYTES
from cyrus_sync.sync_client.engine.withheld import Withheld, withheld_path
from cyrus_sync.sync_client.facts import Facts, Settings
from cyrus_sync.sync_client.foreign import cyrus_spool, foreign_mail, nobody_here
from cyrus_sync.sync_client.jobs import Part, in_processes
from cyrus_sync.sync_client.masters import open_master
from cyrus_sync.sync_client.measures import Measures
from cyrus_sync.sync_client.mending import INTERVAL, look_again
from cyrus_sync.sync_client.names import read_input
from cyrus_sync.sync_client.quarantine import Quarantine
from cyrus_sync.sync_client.report import Reporter, log
from cyrus_sync.sync_client.rivals import RIVALS_INTERVAL, Rival, rivals
from cyrus_sync.sync_client.rolling import Rolling
from cyrus_sync.sync_client.sources import ChannelSource, FileSource, Source, owner_of_line
from cyrus_sync.sync_client.status import StatusFile
from cyrus_sync.sync_client.turn import Turn, part_bytes
from cyrus_sync.sync_client.until_done import until_done
from cyrus_sync.sync_client.watch import FileWatch, NoWatch
from cyrus_sync.sync_client.work import Item, Kind

if TYPE_CHECKING:
    from cyrus_sync.sync_client.engine.cache import RemoteCache


@dataclass(frozen=True, slots=True)
class Job:
    """A checked command. `names` are internal ones, or userids, or the prefix of ``-A``."""

    arguments: Arguments
    cfg: Config
    settings: ClientSettings
    names: list[str] = field(default_factory=list)
    bad_names: int = 0
    """Names that cannot be one and were reported: the others are done, the exit status is 1."""

    @property
    def channel(self) -> str | None:
        return self.arguments.channel or None

    @property
    def directory(self) -> Path:
        return channel_directory(self.cfg, self.arguments.channel)


class _Parts:
    """What both kinds of runs are made of."""

    def __init__(self, job: Job, reactor: Reactor) -> None:
        few_arenas()
        arguments = job.arguments
        self.reactor = reactor
        self.threads = Turns(reactor)
        opened = open_master(job.cfg, reactor)
        self.master, self.sweep, self.reconfigure_master, self.add_figures = opened
        self.reporter = Reporter(
            verbose=arguments.verbose,
            verbose_logging=arguments.verbose_logging,
            channel=arguments.channel,
            server=job.settings.server,
        )
        self.facts = Facts()
        self.turn = Turn()
        self.meter = Meter("replicating")
        """May be replaced."""
        self.measures = Measures()
        self.withheld = Withheld(withheld_path(job.directory, job.settings.server))
        self.remark: Callable[[str], None] = lambda text: log.warning("%s", text)
        """May be replaced before the first connection."""
        self.connector = WireConnector(
            reactor,
            job.settings,
            self.master,
            self.threads,
            replace(
                engine_options(job, self.reporter, reactor),
                remark=self._pass_on,
                withheld=self.withheld,
                give_way=self.turn.is_wanted,
                sent=self._sent,
            ),
            archive=arguments.stage_to_archive,
            trace=self.reporter.trace,
            replies=self.measures.replies,
        )

    def _sent(self, messages: int, octets: int) -> None:
        facts = self.facts
        facts.sent(messages, octets)
        self.meter.at(f"{facts.messages:,} messages, {facts.bytes / 1e6:,.1f} MB sent")

    def _pass_on(self, text: str) -> None:
        self.remark(text)


def engine_options(job: Job, reporter: Reporter, reactor: Reactor) -> Options:
    """What the command line and the configuration say to the engine."""
    arguments, cfg = job.arguments, job.cfg
    rolling = arguments.mode is Mode.ROLLING
    cache = cfg.string("sync_cache_db_path", job.channel)
    return Options(
        server=job.settings.server,
        channel=arguments.channel,
        local_only=arguments.local_only,
        no_copyback=arguments.no_copyback,
        skip_locked=arguments.skip_locked,
        partition=arguments.partition,
        batchsize=cfg.integer("sync_batchsize", job.channel),
        batch_bytes=part_bytes(job.settings.bandwidth.least) if rolling else BATCH_BYTES,
        restart_after_group=rolling,
        cache=_remembered(Path(cache), job.settings.server) if cache else None,
        trust_cache=rolling,
        lock_dir=cfg.configdirectory / "lock",
        skip_dir=job.directory,
        left_out=LeftOut(job.directory / FILE, job.settings.server),
        spool_dir=job.directory,
        report=reporter.operation,
        notice=lambda text: log.info("%s", text),
        strict=not rolling,
        external=Namespace.from_config(cfg).external,
        here=cfg.servername,
        clock=reactor,
    )


def _remembered(path: Path, server: str) -> RemoteCache:
    from cyrus_sync.sync_client.engine.cache import RemoteCache  # loads SQLite

    return RemoteCache(path, server)


# -- one-shot


def run_one_shot(job: Job) -> int:
    """``-u``, ``-m``, ``-A``, ``-s``. If nobody reads ``-v``: `LostOutput`, after what was under way."""
    jobs = job.cfg.integer("sync_jobs", job.channel)
    many = job.arguments.mode is Mode.ALL or (job.arguments.mode is Mode.USERS and len(job.names) > 1)
    if jobs > 1 and many:
        return in_processes(jobs, lambda part: _metered(job, part))
    return _metered(job, Part())


def _metered(job: Job, part: Part) -> int:
    with progress(
        "replicating",
        stream=sys.stderr,
        log=lambda text: log.info("%s", text),
        unit="users and mailboxes",
        silent=bool(job.arguments.verbose) or not part.first,  # each operation is printed
    ) as meter:
        return _one_shot(job, meter, part)


def _one_shot(job: Job, meter: Meter, part: Part) -> int:
    reactor = installed()
    lost: list[LostOutput] = []

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        parts = _Parts(job, reactor)
        shot = oneshot.OneShot(
            clock=reactor,
            connector=parts.connector,
            items=[],
            patience=0 if job.arguments.connect_once else ONE_SHOT_PATIENCE,
            maxwait=job.cfg.duration("sync_reconnect_maxwait", job.channel),
            skip_locked=job.arguments.mode is Mode.ALL,
            report=parts.reporter.failure,
            finished=meter.advance,
            say=lambda text: log.error("%s", text),
        )
        parts.meter = meter
        parts.remark = shot.remark

        async def work() -> int:
            items, shot.digests = await parts.threads.run(_items, job, parts.master)
            shot.items = [item for item in items if part.has(item.owner)]
            meter.expect(len(shot.items))
            if not part.first:
                return await shot.go()
            if job.arguments.mode is Mode.ALL:
                if not items:
                    shot.remark(await parts.threads.run(nobody_here, job.cfg, "".join(job.names)))
                here = [item.owner.name for item in items if item.kind is Kind.USER]
                shot.everybody = "".join(job.names), here
                shot.ask_anyway = bool(items) and not shot.items
            elif (found := _left_out(job.cfg, parts.master)) is not None:
                shot.remark(foreign_mail(found))
            status = await shot.go()
            return status or (EX_FAILURE if job.bad_names else EX_OK)

        def nobody_reads(loss: LostOutput) -> None:
            lost.append(loss)
            reactor.callFromThread(shot.stop)

        parts.reporter.on_lost_output = nobody_reads
        _warn_of_certificates(job.settings)
        return Deferred.fromCoroutine(work()), shot.stop

    status = until_done(reactor, begin)
    if lost:
        raise lost[0]
    return status


def _left_out(cfg: Config, master: Master) -> Path | None:
    """What is here of a real Cyrus whose mail is not what is replicated, if nobody else's is."""
    if whose_mail(cfg).is_cyrus or next(master.owners(), None) is not None:
        return None
    return cyrus_spool(cfg)


def _items(job: Job, master: Master) -> tuple[list[Item], dict[str, bytes]]:
    """What is to be done; with ``-A``, the digests of those of whom they are known."""
    match job.arguments.mode:
        case Mode.USERS:
            return oneshot.user_items(job.names), {}
        case Mode.META:
            return oneshot.meta_items(job.names), {}
        case Mode.MAILBOXES:
            return oneshot.mailbox_items(job.names), {}
        case _:
            known = master.known_users()
            users, shared = read_everybody(master, "".join(job.names), True, known)
            digests = {userid: known[userid].digest for userid in users if userid in known}
            return oneshot.everybody_items(users, shared), digests


# -- rolling


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


def run_rolling(job: Job, reload: Callable[[], Job]) -> int:
    """``-r`` and ``-R``. `reload` reads the configuration anew at SIGHUP."""
    reactor = installed()
    systemd = sdnotify.SystemdNotifier()

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        parts = _Parts(job, reactor)
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
                _warn_of_certificates(fresh.settings)
            rolling.hurry()

        def stop() -> None:
            systemd.notify("STOPPING=1")
            rolling.stop(EX_TEMPFAIL)

        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hang_up))
        _warn_of_certificates(job.settings)
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


def _look_after_damage(job: Job, parts: _Parts) -> None:
    """At once, and at intervals."""
    sync_log = SyncLog(log_path(job.cfg, job.arguments.channel))

    def look() -> Deferred[None]:
        looked = parts.threads.run(look_again, parts.master, parts.withheld, sync_log)
        return looked.addErrback(lambda failure: log.error("cannot look after damage: %s", failure.value))

    _at_intervals(parts, look, INTERVAL)


def _look_for_rivals(job: Job, parts: _Parts) -> None:
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


def _at_intervals(parts: _Parts, look: Callable[[], Deferred[None]], seconds: float) -> None:
    """From now on, as long as the process lives."""
    ticker = LoopingCall(look)
    ticker.clock = cast(Any, parts.reactor)
    ticker.start(seconds, now=True)

    def stop() -> None:
        if ticker.running:
            ticker.stop()

    parts.reactor.addSystemEventTrigger("before", "shutdown", stop)


def _tell_figures(job: Job, parts: _Parts, rolling: Rolling) -> None:
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


def _behind_sweep(job: Job, parts: _Parts, run: Callable[[], Deferred[int]]) -> Deferred[int]:
    """Write what earlier changes have left over for the log; the first run follows at once, a single one
    (``-1``) when that is done, so that it finds the lines."""
    if job.arguments.input_file is not None:
        return run()
    stop = threading.Event()
    parts.reactor.addSystemEventTrigger("before", "shutdown", stop.set)
    swept = parts.threads.run(parts.sweep, stop)
    swept.addErrback(lambda failure: log.error("cannot look for lines left over: %s", failure.value))
    return swept.addCallback(lambda _: run()) if job.arguments.once else run()


def _source(job: Job, parts: _Parts) -> tuple[Source, Any]:
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


def _warn_of_certificates(settings: ClientSettings) -> None:
    for warning in client_warnings(settings):
        log.warning("%s", warning)
