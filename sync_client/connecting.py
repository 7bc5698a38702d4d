"""The real thing behind `sync_client.connection`: a csync connection with an engine on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.master import Master
from cyrus_sync.common.protocol.commands import DIGESTS, HEAL, UNMAILBOX_ID, USERS, WAITING, ZSTD
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.waiting import MOST_NAMED, Waiting
from cyrus_sync.common.wire.bandwidth import Limiter
from cyrus_sync.common.wire.client import ClientSettings, connect
from cyrus_sync.common.wire.pipeline import Replies
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_client.connection import EngineVerbs
from cyrus_sync.sync_client.engine import Engine, Options
from cyrus_sync.sync_client.facts import NotGranted
from cyrus_sync.sync_client.report import Trace

_log = logging.getLogger(__name__)

ARCHIVE = "REPLICATION-ARCHIVE"
SIEVE_MAILBOX = "SIEVE-MAILBOX"
WANTED = frozenset({SIEVE_MAILBOX, UNMAILBOX_ID, HEAL, USERS, DIGESTS, ZSTD, WAITING})


class WireConnection:
    """An `EngineConnection` over the wire."""

    def __init__(self, engine: EngineVerbs, replica: WireReplica, here: str, channel: str) -> None:
        self.engine = engine
        self._replica = replica
        self._word = Waiting(here, channel, 0)

    def restart(self) -> Deferred[None]:
        return self._replica.restart()

    def noop(self) -> Deferred[None]:
        return self._replica.noop()

    def tell(self, waiting: int, owners: Sequence[str]) -> None:
        if WAITING in self._replica.capabilities:
            word = replace(self._word, waiting=waiting, owners=tuple(owners[:MOST_NAMED]))
            self._replica.waiting(word).addErrback(lambda failure: _log.info("%s", failure.value))

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        self._replica.on_lost(lost)

    def close(self) -> Deferred[None]:
        return self._replica.close()


class WireConnector:
    """Connects, agrees on capabilities, puts an engine on the connection: `make`, if it is given, makes it.
    `wanted` are capabilities besides those that every engine can use."""

    def __init__(
        self,
        reactor: Reactor,
        settings: ClientSettings,
        master: Master,
        threads: Any,
        options: Options,
        *,
        archive: bool = False,
        trace: Trace | None = None,
        make: Callable[[WireReplica], EngineVerbs] | None = None,
        wanted: frozenset[str] = frozenset(),
        replies: Replies | None = None,
    ) -> None:
        """`replies`: where they are counted."""
        self._here, self._channel = options.here, options.channel
        self._make = make or (lambda replica: Engine(master, replica, threads, options))
        self._wanted = WANTED | wanted
        self._reactor = reactor
        self.settings = settings
        """May be replaced; the next attempt uses them."""
        self._master = master
        self._threads = threads
        self._archive = archive
        self._trace = trace
        self._replies = replies
        self._traffic = 0, 0
        self._proto: CsyncProtocol | None = None

    @property
    def server(self) -> str:
        return self.settings.server

    @property
    def traffic(self) -> tuple[int, int]:
        """Octets received and sent on all connections so far, as they went over the line."""
        received, sent = self._traffic
        if self._proto is not None:
            received, sent = received + self._proto.bytes_read, sent + self._proto.bytes_written
        return received, sent

    def _new_line(self, proto: CsyncProtocol) -> None:
        """The one before it is gone."""
        self._traffic, self._proto = self.traffic, proto

    def connect(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect())

    async def _connect(self) -> WireConnection:
        connection = await connect(self._reactor, self.settings, self._trace)
        self._new_line(connection.proto)
        wanted = self._wanted | {ARCHIVE} if self._archive else self._wanted
        if not await self._threads.run(_scripts_are_mail, self._master):
            wanted -= {SIEVE_MAILBOX}
        try:
            replica = await WireReplica.start(
                connection, wanted, self._threads, timeout=self.settings.idle_timeout, replies=self._replies
            )
        except BaseException:
            connection.proto.abort()
            raise
        if self._archive and ARCHIVE not in replica.capabilities:
            await replica.close()
            raise NotGranted().at(server=self.server)
        if self.settings.bandwidth:
            replica.limit(Limiter(self.settings.bandwidth, self._reactor))
        return WireConnection(self._make(replica), replica, self._here, self._channel)


def _scripts_are_mail(master: Master) -> bool:
    """May block on a disk."""
    return master.scripts_are_mail
