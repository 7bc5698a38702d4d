"""The rolling client's connection: made, kept alive, renewed, closed. When that is due, others decide."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.reactor import Clock
from cyrus_sync.sync_client.connection import Connector, EngineConnection
from cyrus_sync.sync_client.facts import Facts, reason_of

_log = logging.getLogger(__name__)


class Uplink:
    """One connection at a time. What `status` shows of it goes into `facts`."""

    def __init__(
        self, clock: Clock, connector: Connector, facts: Facts, lost: Callable[[Exception], None]
    ) -> None:
        """`lost` is called when a connection ends other than by `close`."""
        self.connection: EngineConnection | None = None
        self.error: Exception | None = None
        """Why the last connection was lost; None as long as it is not."""
        self.proved = False
        """It has done some work, so the server is well."""
        self._clock = clock
        self._connector = connector
        self._facts = facts
        self._lost = lost
        self._attempt: Deferred[EngineConnection] | None = None
        self._last_command: float = 0
        self._asked = False
        """A NOOP is under way."""

    def connect(self, connected: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Try once; one of the two is called, unless `give_up` comes first."""
        self._attempt = self._connector.connect()
        self._attempt.addCallbacks(
            self._made, self._not_made, callbackArgs=(connected,), errbackArgs=(failed,)
        )

    def give_up(self) -> None:
        """End an attempt that is under way."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()

    def _made(self, connection: EngineConnection, connected: Callable[[], None]) -> None:
        if self._attempt is None:
            connection.close()
            return
        self._attempt = None
        self.connection, self.error, self.proved = connection, None, False
        self._facts.connected = self._last_command = self._clock.seconds()
        self._facts.connection_again(self._last_command)
        connection.on_lost(lambda error: self._ended(connection, error))
        connected()

    def _not_made(self, failure: Any, failed: Callable[[Exception], None]) -> None:
        wanted, self._attempt = self._attempt is not None, None
        if failure.check(CancelledError) or not wanted:
            return
        self._facts.trouble(reason_of(failure.value), self._clock.seconds(), connection=True)
        if not isinstance(failure.value, CyrusSyncError):
            _log.error("connecting failed: %s", failure.getTraceback())
        failed(failure.value)

    def _ended(self, connection: EngineConnection, error: Exception) -> None:
        if connection is self.connection:
            self.error = error
            self._facts.trouble(reason_of(error), self._clock.seconds(), connection=True)
            self._lost(error)

    def used(self) -> None:
        """Commands have just been answered."""
        self._last_command = self._clock.seconds()

    def is_older_than(self, seconds: float) -> bool:
        """Never, for 0 seconds."""
        since = self._facts.connected
        return seconds > 0 and since is not None and self._clock.seconds() - since >= seconds

    def keep_alive(self, quiet: float) -> None:
        """NOOP, if nothing was asked for `quiet` seconds."""
        now = self._clock.seconds()
        connection = self.connection
        if connection is None or self._asked or now - self._last_command < quiet:
            return
        self._last_command = now
        self._asked = True
        answer = connection.noop()
        answer.addCallbacks(self._answered, lambda failure: self._ended(connection, failure.value))
        answer.addBoth(self._answer_over)

    def _answered(self, _result: object) -> None:
        self.proved = True

    def _answer_over(self, _result: object) -> None:
        self._asked = False

    def close(self, *, restart: bool = False) -> Deferred[None]:
        """End the connection, if there is one; fires when it is gone. `restart`: tell the server before that
        it may forget what is staged."""
        connection, self.connection = self.connection, None
        self._facts.connected = None
        if connection is None:
            return succeed(None)
        if restart:
            connection.restart().addErrback(lambda failure: _log.info("RESTART failed: %s", failure.value))
        return connection.close()
