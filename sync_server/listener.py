"""The ports and UNIX sockets, and who is connected; how all of it ends.

At SIGTERM the listeners close first, then every session finishes what it has read and says BYE. What is
not done after `GRACE_SECONDS` is cut off: its changes were never acknowledged, or are safe already.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from pathlib import Path
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol

from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_server import replies
from cyrus_sync.sync_server.places import origin
from cyrus_sync.sync_server.replies import line
from cyrus_sync.sync_server.service import Service
from cyrus_sync.sync_server.session import Session
from cyrus_sync.sync_server.settings import Address

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
            places.complain(address, why)
            proto.write(line(replies.bye(why)))
            proto.lose()
            return
        session = Session(proto, self.service, trusted=trusted)
        self.service.sessions.add(session)
        session.begin()


class Listeners:
    """Everything that the server listens on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._factory = CsyncFactory(service)
        self._ports: list[Any] = []

    def open(self, addresses: tuple[Address, ...]) -> None:
        """Raises `ConfigError` where an address cannot be had; nothing is left open then."""
        for address in addresses:
            try:
                port = self._listen(address)
            except (CannotListenError, OSError, ValueError) as error:
                self.close()
                raise ConfigError(f"sync_listen: cannot listen on {address}: {_why(error)}") from None
            self._ports.append(port)
            log.info("listening on %s", describe(port))

    def _listen(self, address: Address) -> IListeningPort:
        reactor = self._service.reactor
        if address.path:
            _remove_stale_socket(address.path)
            return reactor.listenUNIX(address.path, self._factory, mode=0o600)
        if address.interface:
            host = _numeric(address.interface)
            return reactor.listenTCP(address.port, self._factory, backlog=128, interface=host)
        try:
            return reactor.listenTCP(address.port, self._factory, backlog=128, interface="::")
        except (CannotListenError, OSError) as error:
            if "in use" in str(error):
                raise
            everywhere = "0.0.0.0"  # noqa: S104 (no address was given)
            return reactor.listenTCP(address.port, self._factory, backlog=128, interface=everywhere)

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return [describe(port) for port in self._ports]

    def close(self) -> Deferred[Any]:
        """Take no more connections."""
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

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


def describe(port: Any) -> str:
    """``127.0.0.1:2005``, or the path of a socket."""
    host = port.getHost()
    if isinstance(host, UNIXAddress):
        return str(Path(host.name.decode() if isinstance(host.name, bytes) else str(host.name)))
    return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


def _numeric(host: str) -> str:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])


def _remove_stale_socket(path: str) -> None:
    """A socket that a killed server left behind goes; one that answers, or no socket at all, stays."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()


def _why(error: Exception) -> str:
    inner = getattr(error, "socketError", error)
    return str(getattr(inner, "strerror", None) or inner)
