"""The ports and UNIX sockets, and who is connected; how all of it ends.

At SIGTERM the listeners close first, then every session finishes what it has read and says BYE. What is
not done after `GRACE_SECONDS` is cut off: its changes were never acknowledged, or are safe already.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from cyrus_sync.common.listening import Address, OpenPorts
from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_server import replies
from cyrus_sync.sync_server.dispatched import Dispatched
from cyrus_sync.sync_server.replies import line
from cyrus_sync.sync_server.service import Service
from cyrus_sync.sync_server.session import Session

log = logging.getLogger("sync_server")

GRACE_SECONDS = 30.0


class CsyncFactory(Factory):
    """Makes a `CsyncProtocol` with a `Session` for each connection."""

    noisy = False

    def __init__(self, service: Service) -> None:
        self.service = service

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        trusted = isinstance(addr, UNIXAddress)
        return CsyncProtocol(
            self.service.connection(),
            self.service.reactor,
            server=True,
            connected=lambda proto: self._connected(proto, trusted),
        )

    def _connected(self, proto: CsyncProtocol, trusted: bool) -> None:
        places, address = self.service.places, "" if trusted else origin(proto.peer)
        why = places.refusal(address)
        if why:
            self.service.measures.turned_away += 1
            places.complain(address, why)
            proto.write(line(replies.bye(why)))
            proto.lose()
            return
        self.service.measures.accepted += 1
        session = Session(proto, self.service, trusted=trusted)
        self.service.sessions.add(session)
        session.begin()


class Listeners:
    """Everything that the server listens on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._factory = CsyncFactory(service)
        self._ports = OpenPorts(service.reactor, log)
        self._dispatched: Dispatched | None = None

    def open_dispatched(self, control: socket.socket, orphaned: Callable[[], None]) -> None:
        """Take connections from a supervisor; `orphaned` is called when it is gone."""
        self._dispatched = Dispatched(self._service.reactor, control, self._factory, orphaned)
        self._dispatched.begin()

    def open(self, addresses: tuple[Address, ...]) -> None:
        """Raises `ConfigError` where an address cannot be had; nothing is left open then."""
        for address in addresses:
            self._ports.open("sync_listen", address, self._factory)

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return self._ports.where

    def close(self) -> Deferred[Any]:
        """Take no more connections."""
        if self._dispatched is not None:
            self._dispatched.stop()
        return self._ports.close()

    def stop(self) -> Deferred[None]:
        """Fires when every connection has ended (after `GRACE_SECONDS` at the latest)."""
        self.close()
        done: Deferred[None] = Deferred()
        service = self._service

        def enough() -> None:
            for session in list(service.sessions):
                log.warning(
                    "cut off: still busy %g s after the signal [client=%s]", GRACE_SECONDS, session.client
                )
                session.proto.abort()

        deadline = service.later(GRACE_SECONDS, enough)

        def all_gone() -> None:
            if deadline.active():
                deadline.cancel()
            done.callback(None)

        service.when_empty(all_gone)
        for session in list(service.sessions):
            session.stop()
        return done
