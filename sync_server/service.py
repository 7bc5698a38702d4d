"""What all connections of a server share: settings, store, threads, login, certificates, the clock.

Sessions get everything from here and nothing from globals, so that a test hands them a clock, a replica
and a password file of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

from twisted.internet.defer import Deferred

from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import Shares, share_out
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.protocol.connection_server import ServerConnection
from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores import open_kept, role_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.stores.staging import remove_left_overs
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.waiting import WaitingFile
from cyrus_sync.common.wire.certificates import expiry_warnings, read_again, server_files
from cyrus_sync.common.wire.guessing import Guessing
from cyrus_sync.common.wire.sasl.server import SaslServer
from cyrus_sync.common.wire.tls import ServerTLS, server_context
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_server.known import FILE, read_known, write_known
from cyrus_sync.sync_server.measures import Measures
from cyrus_sync.sync_server.penalty import Penalty
from cyrus_sync.sync_server.places import Guest, Most, Places
from cyrus_sync.sync_server.settings import ServerSettings

log = logging.getLogger("sync_server")


class Connected(Guest, Protocol):
    """A connection, as far as the whole server is concerned (`sync_server.session.Session`)."""

    client: str
    proto: CsyncProtocol

    @property
    def staged(self) -> tuple[int, int, int]:
        """Messages that have come and are in no mailbox yet; their octets in memory and on disk."""

    def stop(self) -> None:
        """End when what has been asked is answered."""


class Service:
    """The state of a server apart from its connections."""

    def __init__(
        self,
        settings: ServerSettings,
        reactor: Reactor,
        threads: ThreadRunner,
        sasl: SaslServer,
        make_replica: Callable[[], StoreReplica],
        *,
        staging: Path,
        limits: Limits | None = None,
        tls: ServerTLS | None = None,
        store: MailStore | None = None,
        known: Path | None = None,
        refuses: Callable[[], str] = lambda: "",
        add_figures: Callable[[Sheet], None] = lambda _sheet: None,
    ) -> None:
        """`known`: where the addresses are kept from which administrators have logged in."""
        self.settings = settings
        self.reactor = reactor
        self.threads = threads
        self.sasl = sasl
        self.replica = make_replica
        self.staging = staging
        self.limits = limits or Limits()
        self.refuses = refuses
        """Why no changes of replication are taken now; "" where they are."""
        self.add_figures = add_figures
        """What the store itself tells Prometheus; blocks."""
        self.tls_context = tls
        self.store = store
        self.measures = Measures()
        self.penalty = Penalty(reactor.seconds)
        self.guessing = Guessing(settings.failed_login_pause, reactor.seconds)
        self.places = Places(
            most(settings, share_out()),
            reactor.seconds,
            reactor.callLater,
            known=read_known(known) if known else None,
            keep=lambda addresses: threads.run(write_known, known, addresses) if known else None,
        )
        self.sessions: set[Connected] = set()
        self._when_empty: Callable[[], None] | None = None

    @classmethod
    def open(cls, config: Config, settings: ServerSettings, reactor: Reactor) -> Self:
        """As imapd.conf has it. Clears what a killed server left behind. `ConfigError`, `StoreError`."""
        tls = server_context(config)
        sasl = SaslServer.from_config(config, reactor)
        store, care = open_kept(config)
        care.check()
        staging = care.staging()
        gone = remove_left_overs(staging)
        if gone:
            log.info("removed %d staged files of a server that was killed", gone)
        threads = ThreadRunner(reactor, share_out().threads)

        words = WaitingFile(config.configdirectory / "sync")

        def make_replica() -> StoreReplica:
            return StoreReplica(
                store,
                threads,
                partitions=settings.partitions,
                staging_dir=staging,
                make_staging_dir=False,
                words=words,
            )

        return cls(
            settings,
            reactor,
            threads,
            sasl,
            make_replica,
            staging=staging,
            limits=_limits(config),
            tls=tls,
            store=store,
            known=config.configdirectory / "sync" / FILE,
            refuses=role_of(config).refuses_replication,
            add_figures=care.add_figures,
        )

    def close(self) -> None:
        """After the last connection."""
        if self.store is not None:
            self.store.close()

    def connection(self) -> ServerConnection:
        """The grammar of a new connection."""
        return ServerConnection(self.limits)

    def reload_certificates(self) -> None:
        """SIGHUP. Bad files leave the certificates in use as they are."""
        if self.tls_context is None:
            log.info("SIGHUP: no certificates are configured")
            return
        read_again(self.tls_context, log)
        self.look_at_certificates()

    def look_at_certificates(self) -> list[str]:
        """Warn of certificates that have expired or soon will; the warnings."""
        settings = self.tls_context.settings if self.tls_context else None
        warnings = expiry_warnings(server_files(settings))
        for warning in warnings:
            log.warning("%s", warning)
        return warnings

    # -- the clock

    def now(self) -> float:
        return float(self.reactor.seconds())

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """An `IDelayedCall`."""
        return self.reactor.callLater(seconds, function, *arguments)

    def soon(self, function: Callable[[], None]) -> None:
        """In the reactor's next turn."""
        self.reactor.callLater(0, function)

    def sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, done.callback, None)
        return done

    # -- who is connected

    def forget(self, session: Connected) -> None:
        """A connection has ended."""
        self.sessions.discard(session)
        self.measures.received += session.proto.bytes_read
        self.measures.sent += session.proto.bytes_written
        self.places.leave(session)
        self._look_if_empty()

    def when_empty(self, function: Callable[[], None]) -> None:
        """Call once, when no connection is left (perhaps now)."""
        self._when_empty = function
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        if not self.sessions and self._when_empty is not None:
            function, self._when_empty = self._when_empty, None
            function()


def most(settings: ServerSettings, shares: Shares) -> Most:
    """How many connections there may be: what imapd.conf says, as far as there are files for it."""
    connections = min(settings.max_connections or shares.connections, shares.connections)
    return Most.of(connections, settings.max_per_address, settings.max_strangers)


def _limits(config: Config) -> Limits:
    """maxword, maxquoted, maxliteral and literalminus; 0 = no limit but that of a whole value."""
    unlimited = Limits().max_value
    literal = config.size("maxliteral") or unlimited
    return Limits(
        max_word=config.size("maxword") or unlimited,
        max_quoted=config.size("maxquoted") or unlimited,
        max_literal=min(literal, 4096) if config.switch("literalminus") else literal,
    )
