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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import sdnotify
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import EX_TEMPFAIL, ConfigError, CyrusSyncError
from cyrus_sync.common.listening import CANNOT, Address, describe, listen, why_not
from cyrus_sync.common.names import inbox_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.common.stores import KeptStore
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path
from cyrus_sync.sync_client.arguments import Arguments
from cyrus_sync.sync_client.channel import PULL, channel_directory
from cyrus_sync.sync_client.facts import Facts, Settings
from cyrus_sync.sync_client.pull_connection import PullConnector, PullEngine
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
    from cyrus_sync.pull.folder import Pulled
    from cyrus_sync.pull.puller import Puller

_NEVER = 1e9

_ASK_AGAIN_SECONDS = 30.0
"""Least time between two looks at who is pulled, for events of who was not."""


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


class PullLog:
    """Writes into the log what is to be pulled. Blocks; safe between threads."""

    def __init__(self, cfg: Config, log_file: SyncLog, kept: KeptStore, puller: Puller) -> None:
        self._cfg = cfg
        self._log = log_file
        self._kept = kept
        self._puller = puller
        self._space = Namespace.from_config(cfg)
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._asked = float("-inf")

    def poll(self) -> int:
        """A line for everybody; how many there are."""
        self._puller.begin_round()
        userids = self._everybody()
        if userids:
            self._log.append([("USER", userid) for userid in userids])
        return len(userids)

    def changed(self, changes: Sequence[Change]) -> None:
        """Lines for what has changed of those who are pulled at all."""
        wanted = []
        for change in changes:
            try:
                wanted.append((self._space.userid(change.login), change))
            except CyrusSyncError as error:
                log.warning("imap_events_listen: %s", error)
        self._look_for_strangers(userid for userid, _ in wanted)
        lines = [
            line
            for userid, change in wanted
            if self._is_pulled(userid)
            for line in self._lines(userid, change)
        ]
        if lines:
            self._log.append(list(dict.fromkeys(lines)))

    def _lines(self, userid: str, change: Change) -> Iterator[tuple[str, ...]]:
        if change.about:
            yield "USER", userid
            return
        places = [self._puller.place_of(userid, shown) for shown in change.folders]
        if not places or None in places:
            yield _all_of(userid)
            return
        for place in places:
            if place is not None and place.name:
                yield "MAILBOX", place.name
            elif place is not None and self._is_pulled(place.userid):
                yield _all_of(place.userid)

    def _is_pulled(self, userid: str) -> bool:
        with self._lock:
            return userid in self._known

    def _look_for_strangers(self, userids: Iterable[str]) -> None:
        """Whoever is not known may be new: but not at each event."""
        with self._lock:
            late = time.monotonic() - self._asked > _ASK_AGAIN_SECONDS
            strangers = not self._known.issuperset(userids)
        if strangers and late:
            self._everybody()

    def _everybody(self) -> list[str]:
        found = everybody(self._cfg, self._kept.mail.userids())
        with self._lock:
            self._known, self._asked = frozenset(found), time.monotonic()
        return found


def _all_of(userid: str) -> tuple[str, ...]:
    return "SUB", userid, inbox_of(userid)


def run_pull_rolling(arguments: Arguments, cfg: Config, reload: Callable[[], Config]) -> int:
    """Until a signal, or with ``-1`` until what is in the log is done. `reload` reads the configuration anew
    at SIGHUP."""
    reactor = installed()
    opened: list[KeptStore] = []

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        few_arenas()
        puller, kept = puller_of(cfg)
        opened.append(kept)
        return _Parts(arguments, cfg, reactor, puller, kept, reload).begin()

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

    def begin(self) -> tuple[Deferred[int], Callable[[], None]]:
        cfg, reactor = self.cfg, self.reactor
        systemd = sdnotify.SystemdNotifier()
        few, stopped = ThreadRunner(reactor, 2, "sync_client"), threading.Event()
        log_file = SyncLog(log_path(cfg, PULL))
        rolling = self._rolling(few, log_file, stopped, systemd)

        def hang_up() -> None:
            try:
                fresh = self.reload()
            except CyrusSyncError as error:
                log.error("%s: going on with what was read before", error)
            else:
                rolling.reconfigure(settings_of(self.arguments, fresh))
            rolling.hurry()

        def stop() -> None:
            systemd.notify("STOPPING=1")
            stopped.set()
            rolling.stop(EX_TEMPFAIL)

        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hang_up))
        log.info("rolling pull from %s begins", self.puller.server)
        if not self.arguments.once:
            work = PullLog(cfg, log_file, self.kept, self.puller)
            _listen(reactor, event_addresses(cfg), lambda changes: _in_thread(few, work.changed, changes))
            _poll(reactor, few, work, cfg.duration("imap_poll"))
        systemd.notify("READY=1")
        return rolling.run(), stop

    def _rolling(
        self, few: ThreadRunner, log_file: SyncLog, stopped: threading.Event, systemd: Any
    ) -> Rolling:
        from cyrus_sync.pull.settings import ImapSettings

        arguments, reactor = self.arguments, self.reactor
        directory = channel_directory(self.cfg, PULL)
        settings, turn, facts = settings_of(arguments, self.cfg), Turn(), Facts()
        reporter = Reporter(
            verbose=arguments.verbose,
            verbose_logging=arguments.verbose_logging,
            channel=PULL,
            server=self.puller.server,
        )

        def pulled(one: Pulled) -> None:
            facts.sent(one.messages, one.octets)
            if one.changed:
                reporter.operation(f"PULL {one.userid}")

        engine = PullEngine(self.puller, ThreadRunner(reactor, settings.width, "pull"), turn, stopped, pulled)
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
            report=reporter.failure,
            say=lambda text: log.error("%s", text),
            random=random.random,
        )


def _in_thread(threads: ThreadRunner, act: Callable[..., object], *arguments: Any) -> Deferred[Any]:
    done = threads.run(act, *arguments)
    return done.addErrback(lambda failure: log.error("what is to be pulled is lost: %s", failure.value))


def _poll(reactor: Reactor, threads: ThreadRunner, work: PullLog, seconds: int) -> None:
    """Now, and every so often."""

    def look() -> Deferred[Any]:
        def found(count: int) -> None:
            if not count:
                log.warning("nobody to pull: imap_users names nobody, and there is nobody here")

        def failed(failure: Failure) -> None:
            log.error("who is to be pulled cannot be found out: %s", failure.value)

        return threads.run(work.poll).addCallbacks(found, failed)

    ticker = LoopingCall(look)
    ticker.clock = cast(Any, reactor)
    ticker.start(seconds, now=True)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: ticker.stop() if ticker.running else None)


def _listen(
    reactor: Reactor, addresses: Sequence[Address], changed: Callable[[Sequence[Change]], object]
) -> None:
    """Raises `ConfigError` where an address cannot be had."""
    if not addresses:
        return
    from cyrus_sync.pull.events import Events, site

    events = Events(changed)
    for address in addresses:
        try:
            port: Any = listen(reactor, address, site(events), mode=0o660)
        except CANNOT as error:
            raise ConfigError(f"imap_events_listen: cannot listen on {address}: {why_not(error)}") from None
        log.info("events: listening on %s", describe(port))
        reactor.addSystemEventTrigger("before", "shutdown", port.stopListening)
