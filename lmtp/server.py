"""The ports, and who is connected; how all of it ends."""

from __future__ import annotations

import logging
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from cyrus_sync.common.listening import Address, OpenPorts
from cyrus_sync.lmtp.answers import CROWDED
from cyrus_sync.lmtp.connection import LmtpConnection
from cyrus_sync.lmtp.service import Service
from cyrus_sync.lmtp.session import Session

log = logging.getLogger("lmtp")

GRACE_SECONDS = 10.0
"""What deliveries have, at the end, until they are on disk and answered."""

SOCKET_MODE = 0o666
"""Of a UNIX socket: who may deliver is said by its directory, as with Cyrus's."""

_BETWEEN_USERS = 0.01
"""Seconds from one user to the next when scripts are looked for: nobody waits for that."""

_NAMED = 20


class Clients(Factory):
    """Makes an `LmtpConnection` with a `Session` for each client."""

    noisy = False

    def __init__(self, service: Service) -> None:
        self.service = service
        self.sessions: dict[LmtpConnection, Session] = {}

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return LmtpConnection(self._begin, self._lost)

    async def _begin(self, connection: LmtpConnection) -> None:
        session = Session(connection, self.service)
        if len(self.sessions) >= self.service.most:
            self.service.measures.turned_away += 1
            log.error("turned away: too many connections [client=%s]", connection.peer)
            session.stop(CROWDED)
            return
        self.service.measures.connections += 1
        self.sessions[connection] = session
        await session.run()

    def _lost(self, connection: LmtpConnection) -> None:
        session = self.sessions.pop(connection, None)
        if session is not None:
            session.over()


class Server:
    """Everything that is listened on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.clients = Clients(service)
        self._ports = OpenPorts(service.reactor, log)
        self._stopped = threading.Event()

    def open(self, addresses: tuple[Address, ...]) -> None:
        """Raises `ConfigError` where an address cannot be had; nothing is left open then."""
        for address in addresses:
            self._ports.open("lmtp_listen", address, self.clients, mode=SOCKET_MODE)

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return self._ports.where

    def say_what_is_not_done(self) -> None:
        """Sieve scripts are not executed; whose those are is found out beside the work."""
        looked = self._service.threads.run(
            self._service.look_for_scripts,
            self._stopped.is_set,
            lambda: self._stopped.wait(_BETWEEN_USERS),
        )

        def found(users: list[str]) -> None:
            if users:
                more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
                log.warning(
                    "Sieve scripts are not executed here: %d users have an active one: %s%s",
                    *(len(users), ", ".join(users[:_NAMED]), more),
                )

        def failed(failure: Failure) -> None:
            log.warning("who has a Sieve script cannot be found out: %s", failure.value)

        looked.addCallbacks(found, failed)

    def close(self) -> Deferred[Any]:
        """Take no more connections."""
        self._stopped.set()
        return self._ports.close()

    def stop(self) -> Deferred[None]:
        """Take no more messages; fires when what is being delivered is answered, or after a while."""
        self.close()
        for session in list(self.clients.sessions.values()):
            session.stop()
        return Deferred.fromCoroutine(self._emptied())

    async def _emptied(self) -> None:
        deadline = self._service.reactor.seconds() + GRACE_SECONDS
        while self._busy() and self._service.reactor.seconds() < deadline:
            await self._service.sleep(0.05)
        await self._service.sleep(0.05)  # what was written goes out

    def _busy(self) -> bool:
        return any(session.busy for session in self.clients.sessions.values())
