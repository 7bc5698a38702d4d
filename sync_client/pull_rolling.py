"""``sync_client -r`` with ``sync_source: imap``: our store is kept in step with an IMAP server.

What is to be pulled stands in an action log of its own, below ``sync/pull``: an event of the server is a line
``MAILBOX user.alice.Work`` if it names a folder that is known, else ``SUB alice user.alice`` (all of them are
listed), and a poll is a line ``USER alice`` for everybody. So several events of a folder are one pull, who
fails is set aside and tried again, and lag and status are what they are for any other master. What is
written into our store stands in *its* action log, from which a channel replicates it.
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
from twisted.python.failure import Failure

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import raise_soft_limit
from cyrus_sync.common.errors import EX_TEMPFAIL, ConfigError, CyrusSyncError
from cyrus_sync.common.listening import CANNOT, Address, describe, listen, why_not
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.names import login_of
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

_SOON_SECONDS = 60.0
"""Until everybody is looked at where that failed."""

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
        rolling = self._rolling(few, log_file, stopped, systemd, counts=counts, told=told)
        polling: _Polling | None = None

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
        if not self.arguments.once:
            work = PullLog(cfg, log_file, self.kept, self.puller, told)

            from cyrus_sync.sync_client.pull_figures import PullFigures

            asking, writing = ThreadRunner(reactor, 1, "asking"), ThreadRunner(reactor, 1, "events")
            polling = _Polling(reactor, asking, writing, work, cfg.duration("imap_poll"))
            events = _listen(reactor, event_addresses(cfg), polling.changed)
            watcher = self._watcher(polling.changed)
            polling.begin(watcher)
            _sweep(reactor, few, self.puller)
            figures = PullFigures(cfg, rolling, log_file.path, self.puller.sessions, counts, events, watcher)
            self._tell_figures(rolling, figures, few)
        systemd.notify("READY=1")
        self.works()
        return rolling.run(), stop

    def _rolling(
        self,
        few: ThreadRunner,
        log_file: SyncLog,
        stopped: threading.Event,
        systemd: Any,
        *,
        counts: PullCounts,
        told: Told,
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
            is_pulled=is_pulled,
            told=told,
            most_whole=max(1, settings.width - 1),
            once=settings.once,
        )
        quarantine = Quarantine(directory, reactor.seconds, owner_of_line)
        quarantine.load()
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


class _Polling:
    """Who there is, and a line for everybody: now, and every so often; soon, where that failed or something
    of which the server has told was lost. Who there is may take long to say: what the server tells of those
    who are known does not wait for that."""

    def __init__(
        self, reactor: Reactor, asking: ThreadRunner, writing: ThreadRunner, work: PullLog, seconds: int
    ) -> None:
        self._reactor = reactor
        self._asking = asking
        self._writing = writing
        self._work = work
        self._seconds = seconds
        self._told: list[Change] = []
        """What waits while lines are written."""
        self._is_writing = False
        self._watcher: Watcher | None = None
        self._soon: Any = None

    def begin(self, watcher: Watcher | None) -> None:
        """`watcher` is told who there is to watch."""
        self._watcher = watcher
        ticker = LoopingCall(self.look)
        ticker.clock = cast(Any, self._reactor)
        ticker.start(self._seconds, now=True)
        self._reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: ticker.stop() if ticker.running else None
        )

    def changed(self, changes: Sequence[Change]) -> None:
        """The server has told of these."""
        self._told += changes
        if not self._is_writing:
            self._write()

    def _write(self) -> None:
        """All that has been told meanwhile at once."""
        if not self._told:
            return
        changes, self._told = self._told, []
        self._is_writing = True

        def lost(failure: Failure) -> None:
            log.error("what the server told is lost, so everybody is looked at soon: %s", failure.value)
            self._look_soon()

        def written(strangers: list[Change]) -> None:
            if strangers:
                self._asking.run(self._work.of_strangers, strangers).addErrback(lost)

        def goes_on(_: object) -> None:
            self._is_writing = False
            self._write()

        self._writing.run(self._work.changed, changes).addCallbacks(written, lost).addBoth(goes_on)

    def look(self) -> Deferred[Any]:
        def found(userids: list[str]) -> None:
            if not userids:
                log.warning("nobody to pull: imap_users names nobody, and there is nobody here")
                self._look_soon()
            if self._watcher is not None:
                self._watcher.set_users(map(login_of, userids))

        def failed(failure: Failure) -> None:
            log.error("who is to be pulled cannot be found out: %s", failure.value)
            self._look_soon()

        return self._asking.run(self._work.poll).addCallbacks(found, failed)

    def _look_soon(self) -> None:
        if self._soon is None or not self._soon.active():
            self._soon = self._reactor.callLater(min(_SOON_SECONDS, self._seconds), self.look)


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
