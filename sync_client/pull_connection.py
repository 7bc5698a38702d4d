"""An IMAP server as the rolling loop sees it: whether it can be reached. Every user is pulled on a connection
of his own (`pull.puller`), so the one that stands here is none."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.errors import CannotConnect
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.sync_client.connection import EngineConnection
from cyrus_sync.sync_client.pull_engine import PullEngine

if TYPE_CHECKING:
    from cyrus_sync.pull.settings import ImapSettings


class PullConnection:
    """`connection.EngineConnection`."""

    def __init__(self, engine: PullEngine) -> None:
        self.engine = engine

    def restart(self) -> Deferred[None]:
        return succeed(None)

    def noop(self) -> Deferred[None]:
        return succeed(None)

    def tell(self, waiting: int, owners: Sequence[str]) -> None:
        """Nobody there wants to know."""

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        """It is never lost: a pull that fails says that the server is gone."""

    def close(self) -> Deferred[None]:
        return succeed(None)


class PullConnector:
    """`connection.Connector`: whether the server can be reached."""

    def __init__(self, settings: ImapSettings, engine: PullEngine, threads: ThreadRunner) -> None:
        self._settings = settings
        self._engine = engine
        self._threads = threads

    @property
    def server(self) -> str:
        return self._settings.server

    def connect(self) -> Deferred[EngineConnection]:
        return self._threads.run(self._try).addCallback(lambda _: PullConnection(self._engine))

    def _try(self) -> None:
        """In a thread."""
        settings = self._settings
        if settings.host.startswith("/"):
            return
        try:
            socket.create_connection((settings.host, settings.port), min(settings.timeout, 30)).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotConnect(f"Can not connect to server '{settings.server}': {reason}") from None
