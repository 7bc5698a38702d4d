"""Looks now and then, remembers, and shows it: the page's process apart from its ports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.web.template import Tag

from cyrus_sync.common.config import Config
from cyrus_sync.common.listening import Address, OpenPorts
from cyrus_sync.common.metrics.exporter import Exporter
from cyrus_sync.common.metrics.pages import limited
from cyrus_sync.common.metrics.settings import MetricsSettings
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.threads import Threads
from cyrus_sync.common.wire.certificates import read_again
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.tls import TLSMemoryBIOFactory, server_context
from cyrus_sync.mailstore.backup.figures import add_backups
from cyrus_sync.mailstore.standby.standing import add_standings
from cyrus_sync.multisite.figures import add_packets
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.shipping.figures import add_bays
from cyrus_sync.shipping.site import Site
from cyrus_sync.web.facts import Facts, Observer
from cyrus_sync.web.figures import add_scrub
from cyrus_sync.web.login import Doorkeeper
from cyrus_sync.web.memory import FILE, Memory
from cyrus_sync.web.serving import LOCAL_NAMES, Root
from cyrus_sync.web.settings import Places
from cyrus_sync.web.view import page

log = logging.getLogger("cyrus-sync-web")

LOOK_SECONDS = 5.0
SAVE_SECONDS = 60.0


class Web:
    """One page. `open` makes the ports, `begin` starts to look, `end` is for the end of the process."""

    def __init__(self, config: Config, reactor: Reactor, threads: Threads) -> None:
        self._config = config
        self._reactor = reactor
        self._threads = threads
        self._observer = Observer(config, reactor.seconds)
        self._memory = Memory(config.configdirectory / "sync" / FILE)
        self._facts: Facts | None = None
        self._waiting: list[Deferred[Tag]] = []
        self._saved = float("-inf")
        self._ports = OpenPorts(reactor, log)
        self._exporter = Exporter(reactor, threads, MetricsSettings(), self._figures, "cyrus-sync-web")
        self._looking = LoopingCall(self._look)
        self._looking.clock = cast(Any, reactor)
        self._tls = server_context(config)

    # -- ports

    def open(self, places: Places) -> None:
        """Raises `ConfigError` where an address cannot be had."""
        names = (*LOCAL_NAMES, self._config.servername)
        for address in places.local:
            root = Root(self.draw, self._exporter, names=() if address.path else names)
            self._listen(address, limited(root))
        if not places.open:
            return
        config = self._config
        passwords = PasswordFile(config.string("sync_passwd_file") or "")
        door = Doorkeeper(
            self._reactor,
            self._threads,
            frozenset(config.words("admins")),
            passwords.check,
            float(config.duration("failedloginpause")),
        )
        for address in places.open:
            factory = limited(Root(self.draw, self._exporter, door=door))
            wrapped = TLSMemoryBIOFactory(self._tls, False, factory)  # type: ignore[arg-type]
            self._listen(address, wrapped)

    def _listen(self, address: Address, factory: Any) -> None:
        factory.noisy = False
        self._ports.open("sync_web_listen", address, factory)

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return self._ports.where

    # -- looking

    def begin(self) -> None:
        """Look, at once and again and again."""
        loaded = self._threads.run(self._memory.load)
        loaded.addBoth(lambda _result: self._looking.start(LOOK_SECONDS, now=True))

    def _look(self) -> Deferred[Any]:
        looked = self._threads.run(self._observer.look)
        looked.addCallbacks(self._seen, lambda failure: log.error("cannot look: %s", failure.getTraceback()))
        return looked

    def _seen(self, facts: Facts) -> Deferred[Any] | None:
        self._facts = facts
        self._memory.note(facts)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(page(facts, self._memory))
        if facts.now - self._saved < SAVE_SECONDS:
            return None
        self._saved = facts.now
        saved = self._threads.run(self._memory.save)
        return saved.addErrback(lambda failure: log.error("cannot keep the history: %s", failure.value))

    def draw(self) -> Deferred[Tag]:
        """The page as it was seen last."""
        if self._facts is not None:
            return succeed(page(self._facts, self._memory))
        waiting: Deferred[Tag] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _figures(self) -> Callable[[Sheet], None]:
        config, facts = self._config, self._facts

        def fill(sheet: Sheet) -> None:
            add_packets(sheet, directory_of(config))
            add_bays(sheet, Site.from_config(config))
            if facts is not None:
                add_scrub(sheet, facts)
            add_standings(sheet, config.configdirectory)
            add_backups(sheet, config.configdirectory)

        return fill

    def reload_certificates(self) -> None:
        """SIGHUP. Bad files leave the certificates in use as they are."""
        if self._tls is not None:
            read_again(self._tls, log)

    def end(self) -> None:
        """Listen no more; keep what is remembered. Blocks for that moment."""
        if self._looking.running:
            self._looking.stop()
        self._ports.close()
        try:
            self._memory.save()
        except Exception as error:  # it is for show alone
            log.error("cannot keep the history: %s", error)
