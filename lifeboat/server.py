"""The ports, and who is connected; how all of it ends."""

from __future__ import annotations

import logging
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from cyrus_sync.common.listening import OpenPorts
from cyrus_sync.common.wire.tls import TLSMemoryBIOFactory
from cyrus_sync.lifeboat.connection import ImapConnection
from cyrus_sync.lifeboat.service import Lifeboat
from cyrus_sync.lifeboat.session import Session
from cyrus_sync.lifeboat.settings import Ports

log = logging.getLogger("lifeboat")

GRACE_SECONDS = 5.0
"""What clients have, once told, to take what is on its way to them."""


class Clients(Factory):
    """Makes an `ImapConnection` with a `Session` for each client."""

    noisy = False

    def __init__(self, boat: Lifeboat) -> None:
        self.boat = boat
        self.sessions: dict[ImapConnection, Session] = {}

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return ImapConnection(self.boat.reactor, self._begin, self._lost)

    async def _begin(self, connection: ImapConnection) -> None:
        session = Session(connection, self.boat)
        if len(self.sessions) >= self.boat.most:
            log.error("turned away: too many connections [client=%s]", connection.peer)
            session.stop(b"[ALERT] too many connections")
            return
        self.sessions[connection] = session
        await session.run()

    def _lost(self, connection: ImapConnection) -> None:
        session = self.sessions.pop(connection, None)
        if session is not None:
            session.over()


class Server:
    """Everything that the lifeboat listens on."""

    def __init__(self, boat: Lifeboat) -> None:
        self._boat = boat
        self._clients = Clients(boat)
        self._ports = OpenPorts(boat.reactor, log)

    def open(self, ports: Ports) -> None:
        """Raises `ConfigError` where an address cannot be had; nothing is left open then."""
        for address in ports.plain:
            self._ports.open("lifeboat_listen", address, self._clients)
        if self._boat.tls is not None:
            for address in ports.tls:
                creator: Any = self._boat.tls  # Twisted's types do not know interfaces
                inner = TLSMemoryBIOFactory(creator, False, cast(Any, self._clients))
                self._ports.open("lifeboat_tls_listen", address, inner)

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return self._ports.where

    def close(self) -> Deferred[Any]:
        """Take no more connections."""
        return self._ports.close()

    def stop(self) -> Deferred[None]:
        """Say BYE to everybody; fires soon after."""
        self.close()
        sessions = list(self._clients.sessions.values())
        for session in sessions:
            session.stop()
        return self._boat.sleep(GRACE_SECONDS if self._busy(sessions) else 0.2)

    @staticmethod
    def _busy(sessions: list[Session]) -> bool:
        return any(session.connection.holds_back for session in sessions)
