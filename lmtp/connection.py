"""`LmtpConnection`: octets to and from one client. What they mean is the session's affair."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from cyrus_sync.common.errors import ProtocolViolation
from cyrus_sync.common.wire.peers import peer_name
from cyrus_sync.common.wire.tls_settings import TLSContext
from cyrus_sync.lmtp.octets import PIECE, Octets

_MOST_HELD = 4 * PIECE
"""Octets that are read ahead; then the client has to wait."""


class Gone(Exception):
    """The client is gone."""


@implementer(IHandshakeListener)
class LmtpConnection(Protocol):
    """Calls `begin` with itself once it stands, and `lost` when it is over."""

    def __init__(
        self,
        begin: Callable[[LmtpConnection], Coroutine[Any, Any, None]],
        lost: Callable[[LmtpConnection], None],
    ) -> None:
        self.tls = False
        self.octets = Octets()
        self._begin = begin
        self._lost = lost
        self._waiter: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None
        self._paused = False
        self._over = False

    # -- who is there

    @property
    def ssf(self) -> int:
        """Strength of the TLS layer in bits, 0 without one."""
        return (self._transport.getHandle().get_cipher_bits() or 0) if self.tls else 0

    @property
    def peer_certificate(self) -> Any:
        """The certificate that the client has shown and that was verified, or None."""
        return self._transport.getPeerCertificate() if self.tls else None

    @property
    def host(self) -> str | None:
        """The client's address, None on a UNIX socket."""
        return getattr(self._transport.getPeer(), "host", None)

    @property
    def peer(self) -> str:
        """``192.0.2.1:40312``, or ``unix socket``."""
        return peer_name(self._transport.getPeer())

    @property
    def _transport(self) -> Any:
        """What Twisted's interfaces do not say all of."""
        return self.transport

    # -- reading

    async def line(self) -> bytes:
        """The next command. Raises `LineTooLong`, `Gone`."""
        while (line := self.octets.line()) is None:
            await self._more()
        return line

    async def piece(self) -> bytes:
        """The next part of a message, `END` behind the last. Raises `Gone`."""
        while (piece := self.octets.piece()) is None:
            await self._more()
        return piece

    async def counted(self) -> bytes:
        """The next octets of a part that has a length, `END` behind the last. Raises `Gone`."""
        while (piece := self.octets.counted()) is None:
            await self._more()
        return piece

    def _more(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if self._over:
            waiter.errback(Failure(Gone()))
            return waiter
        self._waiter = waiter
        if self._paused:
            self._paused = False
            self._transport.resumeProducing()
        return waiter

    def dataReceived(self, data: bytes) -> None:
        self.octets.add(data)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
        elif len(self.octets) > _MOST_HELD and not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    # -- writing, beginning and end

    def write(self, data: bytes) -> None:
        if not self._over:
            self._transport.write(data)

    def connectionMade(self) -> None:
        if hasattr(self._transport, "setTcpNoDelay"):
            self._transport.setTcpNoDelay(True)
        done = Deferred.fromCoroutine(self._begin(self))
        done.addErrback(lambda failure: failure.trap(Gone))

    def start_tls(self, context: TLSContext) -> Deferred[None]:
        """Switch to TLS behind what was written. Fails with `ProtocolViolation` where the client has said
        something ahead of its handshake: it could be somebody else's."""
        handshake: Deferred[None] = Deferred()
        if len(self.octets):
            handshake.errback(Failure(ProtocolViolation("plain text was sent ahead of the TLS handshake")))
            return handshake
        self._handshake = handshake
        self._transport.startTLS(context, True)
        return handshake

    def handshakeCompleted(self) -> None:
        waiting, self._handshake = self._handshake, None
        if waiting is not None:
            self.tls = True
            waiting.callback(None)

    def close(self) -> None:
        """The connection ends behind what was written."""
        if not self._over:
            self._transport.loseConnection()

    def abort(self) -> None:
        """The connection ends now."""
        if not self._over:
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._over = True
        waiting = [each for each in (self._waiter, self._handshake) if each is not None]
        self._waiter = self._handshake = None
        for waiter in waiting:
            waiter.errback(Failure(Gone()))
        self._lost(self)
