"""``sync_client -r`` with ``sync_source: imap``: our store is kept in step with an IMAP server.

What is to be pulled stands in an action log of its own, below ``sync/pull``: an event of the server is a line
``MAILBOX user.alice.Work`` if it names a folder that is known, else ``SUB alice user.alice`` (all of them are
listed), and a poll is a line ``USER alice`` for everybody, by portions (`pull_polling`). So several events of
a folder are one pull, who fails is set aside and tried again, and lag and status are what they are for any
other master. What is written into our store stands in *its* action log, from which a channel replicates it.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import sdnotify
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_TEMPFAIL, ConfigError, CyrusSyncError
from cyrus_sync.common.listening import CANNOT, Address, describe, listen, why_not
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.names import Owner
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.common.stores import KeptStore
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.sync_client.arguments import Arguments
from cyrus_sync.sync_client.channel import PULL, channel_directory
from cyrus_sync.sync_client.facts import Facts, Settings
from cyrus_sync.sync_client.pull_connection import PullConnector
from cyrus_sync.sync_client.pull_counts import PullCounts
from cyrus_sync.sync_client.pull_engine import PullEngine, Told
from cyrus_sync.sync_client.pull_log import PullLog
from cyrus_sync.sync_client.pull_polling import Polling
from cyrus_sync.sync_client.pulling import everybody, puller_of
from cyrus_sync.sync_client.quarantine import Quarantine
from cyrus_sync.sync_client.report import Reporter, log
from cyrus_sync.sync_client.rolling import Rolling
from cyrus_sync.sync_client.sources import ChannelSource, owner_of_line
from cyrus_sync.sync_client.status import StatusFile
from cyrus_sync.sync_client.turn import Turn
from cyrus_sync.sync_client.until_done import until_done
from cyrus_sync.sync_client.watch import FileWatch

if TYPE_CHECKING:
    from cyrus_sync.pull.changes import Change
    from cyrus_sync.pull.events import Events
    from cyrus_sync.pull.pulled import Pulled
    from cyrus_sync.pull.puller import Puller
    from cyrus_sync.pull.watcher import Watcher
    from cyrus_sync.sync_client.pull_figures import PullFigures

_NEVER = 1e9

_SWEEP_SECONDS = 5.0

_OTHER_FILES = 256
"""That a process has open besides connections that wait for events."""


def settings_of(arguments: Arguments, cfg: Config) -> Settings:
    """How it rolls. There is no connection that has to be renewed or kept alive."""
    shutdown = arguments.shutdown_file or cfg.string("sync_shutdown_file")
    return Settings(
        delay=arguments.delay or cfg.duration("sync_repeat_interval"),
        timeout=0,
        keepalive=_NEVER,
        maxwait=cfg.duration("sync_reconnect_maxwait"),
        shutdown_file=Path(shutdown) if shutdown else None,
        once=arguments.once,
        connect_once=arguments.connect_once,
        width=cfg.integer("imap_connections"),
    )


def event_addresses(cfg: Config) -> tuple[Address, ...]:
    """Where events are taken. Raises `ConfigError`."""
    try:
        found = tuple(
            Address.parse(word if ":" in word or "/" in word else f":{word}", -1, interface="127.0.0.1")
            for word in cfg.words("imap_events_listen")
        )
    except ValueError as error:
        raise ConfigError(f"{cfg.where('imap_events_listen')}{error}") from None
    if any(not one.path and one.port < 0 for one in found):
        raise ConfigError(f"{cfg.where('imap_events_listen')}an address without a port")
    return found


def run_pull_rolling(
    arguments: Arguments, cfg: Config, reload: Callable[[], Config], works: Callable[[], None]
) -> int:
    """Until a signal, or with ``-1`` until what is in the log is done. `reload` reads the configuration anew
    at SIGHUP. `works` is called once it does."""
    reactor = installed()
    opened: list[KeptStore] = []

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        few_arenas()
        from cyrus_sync.pull.sessions import KEEP_SECONDS

        puller, kept = puller_of(cfg, KEEP_SECONDS)
        opened.append(kept)
        return _Parts(arguments, cfg, reactor, puller, kept, reload, works).begin()

    try:
        return until_done(reactor, begin)
    finally:
        for kept in opened:
            kept.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What rolling is made of."""

    arguments: Arguments
    cfg: Config
    reactor: Reactor
    puller: Puller
    kept: KeptStore
    reload: Callable[[], Config]
    works: Callable[[], None]

    def begin(self) -> tuple[Deferred[int], Callable[[], None]]:
        cfg, reactor = self.cfg, self.reactor
        systemd = sdnotify.SystemdNotifier()
        few, stopped = ThreadRunner(reactor, 2, "sync_client"), threading.Event()
        log_file, counts, told = SyncLog(log_path(cfg, PULL)), PullCounts(), Told()
        polling = (
            None
            if self.arguments.once
            else self._polling(PullLog(cfg, log_file, self.kept, self.puller, told))
        )
        quarantine = Quarantine(channel_directory(cfg, PULL), reactor.seconds, owner_of_line)
        quarantine.load()
        rolling = self._rolling(
            few,
            log_file,
            quarantine,
            stopped,
            systemd,
            counts=counts,
            told=told,
            begins=polling.begun if polling is not None else None,
        )

        def hang_up() -> None:
            try:
                fresh = self.reload()
            except CyrusSyncError as error:
                log.error("%s: going on with what was read before", error)
            else:
                rolling.reconfigure(settings_of(self.arguments, fresh))
            if polling is not None:
                polling.look()
            rolling.hurry()

        def stop() -> None:
            systemd.notify("STOPPING=1")
            stopped.set()
            rolling.stop(EX_TEMPFAIL)

        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hang_up))
        log.info("rolling pull from %s begins", self.puller.server)
        if polling is not None:
            from cyrus_sync.sync_client.pull_figures import PullFigures

            events = _listen(reactor, event_addresses(cfg), polling.changed)
            watcher = self._watcher(polling.changed)
            polling.begin(watcher, rolling, quarantine.holds)
            _sweep(reactor, few, self.puller)
            figures = PullFigures(
                cfg, rolling, log_file.path, self.puller.sessions, counts, polling, events, watcher
            )
            self._tell_figures(rolling, figures, few)
        systemd.notify("READY=1")
        self.works()
        return rolling.run(), stop

    def _polling(self, work: PullLog) -> Polling:
        asking, writing = ThreadRunner(self.reactor, 1, "asking"), ThreadRunner(self.reactor, 1, "events")
        return Polling(self.reactor, asking, writing, work, self.cfg.duration("imap_poll"))

    def _rolling(
        self,
        few: ThreadRunner,
        log_file: SyncLog,
        quarantine: Quarantine,
        stopped: threading.Event,
        systemd: Any,
        *,
        counts: PullCounts,
        told: Told,
        begins: Callable[[Owner], object] | None,
    ) -> Rolling:
        from cyrus_sync.pull.settings import ImapSettings

        arguments, reactor = self.arguments, self.reactor
        directory = channel_directory(self.cfg, PULL)
        settings, turn, facts = settings_of(arguments, self.cfg), Turn(times=1.0), Facts()
        reporter = Reporter(
            verbose=arguments.verbose,
            verbose_logging=arguments.verbose_logging,
            channel=PULL,
            server=self.puller.server,
        )

        def pulled(one: Pulled) -> None:
            facts.sent(one.messages, one.octets)
            counts.pulled(one)
            if one.changed:
                reporter.operation(f"PULL {one.userid}")

        def is_pulled(userid: str) -> bool:
            return userid in everybody(self.cfg, self.kept.mail.userids())

        threads = ThreadRunner(reactor, settings.width, "pull")
        engine = PullEngine(
            self.puller,
            threads,
            turn,
            stopped,
            pulled,
            width=settings.width,
            is_pulled=is_pulled,
            told=told,
            begins=begins,
            most_whole=max(1, settings.width - 1),
            once=settings.once,
        )
        return Rolling(
            clock=reactor,
            connector=PullConnector(ImapSettings.from_config(self.cfg), engine, few),
            source=ChannelSource(log_file, quarantine),
            settings=settings,
            blocking=few.run,
            watch=FileWatch(reactor, log_file.path),
            observer=StatusFile(
                directory,
                PULL,
                os.getpid(),
                reactor.seconds,
                lambda text: systemd.notify(f"STATUS={text}\nWATCHDOG=1"),
            ),
            facts=facts,
            turn=turn,
            rank=engine.rank,
            can_wait=engine.can_wait,
            report=reporter.failure,
            say=lambda text: log.error("%s", text),
            random=random.random,
        )

    def _watcher(self, changed: Callable[[Sequence[Change]], object]) -> Watcher | None:
        """What waits for events of the server itself, if imapd.conf says so."""
        most = self.cfg.integer("imap_watch_connections")
        if not most:
            return None
        from cyrus_sync.pull.settings import ImapSettings
        from cyrus_sync.pull.watcher import Watcher

        settings = ImapSettings.from_config(self.cfg)
        there = raise_soft_limit() - _OTHER_FILES
        if most > there:
            log.warning("imap_watch_connections: only %d fit (ulimit -n)", there)
        watcher = Watcher(
            self.reactor,
            settings,
            self.cfg.configdirectory / "pull",
            min(most, there),
            changed,
            lambda text: log.warning("%s: %s", settings.server, text),
        )
        self.reactor.addSystemEventTrigger("before", "shutdown", watcher.end)
        return watcher

    def _tell_figures(self, rolling: Rolling, figures: PullFigures, few: ThreadRunner) -> None:
        """To ``--status``; and to whoever watches, if imapd.conf says so."""
        rolling.facts.besides = figures.briefly
        metrics = MetricsSettings.from_config(self.cfg, "client", PULL)
        if not metrics:
            return
        from cyrus_sync.common.metrics.exporter import Exporter

        exporter = Exporter(self.reactor, few, metrics, figures.look, "sync_client", channel=PULL)
        exporter.begin()
        self.reactor.addSystemEventTrigger("before", "shutdown", exporter.end)


def _sweep(reactor: Reactor, threads: ThreadRunner, puller: Puller) -> None:
    """Now and then close connections that nobody has used for a while; at the end all of them."""
    ticker = LoopingCall(lambda: threads.run(puller.sessions.sweep))
    ticker.clock = cast(Any, reactor)
    ticker.start(_SWEEP_SECONDS, now=False)

    def end() -> None:
        if ticker.running:
            ticker.stop()
        puller.sessions.close()

    reactor.addSystemEventTrigger("before", "shutdown", end)


def _listen(
    reactor: Reactor, addresses: Sequence[Address], changed: Callable[[Sequence[Change]], object]
) -> Events | None:
    """Raises `ConfigError` where an address cannot be had."""
    if not addresses:
        return None
    from cyrus_sync.pull.events import Events, site

    events = Events(changed)
    for address in addresses:
        try:
            port: Any = listen(reactor, address, site(events), mode=0o660)
        except CANNOT as error:
            raise ConfigError(f"imap_events_listen: cannot listen on {address}: {why_not(error)}") from None
        log.info("events: listening on %s", describe(port))
        reactor.addSystemEventTrigger("before", "shutdown", port.stopListening)
    return events
