"""`ImapConnection`: octets to and from one client. What they mean is the session's affair."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from cyrus_sync.common.errors import CyrusSyncError, ProtocolViolation
from cyrus_sync.common.reactor import Clock, Timer
from cyrus_sync.common.wire.peers import peer_name
from cyrus_sync.common.wire.tls import TLSMemoryBIOProtocol
from cyrus_sync.common.wire.tls_settings import TLSContext
from cyrus_sync.lifeboat.grammar import Event, Framer

_MOST_WAITING = 50
"""Commands that are read ahead; then the client has to wait."""

_TAKEN_WITHIN = 120.0
"""Seconds in which a client must take something of what it has asked for."""


class Gone(Exception):
    """The client is gone."""


@implementer(IHandshakeListener, IPushProducer)
class ImapConnection(Protocol):
    """Calls `begin` with itself once it stands, and `lost` when it is over."""

    def __init__(
        self,
        clock: Clock,
        begin: Callable[[ImapConnection], Coroutine[Any, Any, None]],
        lost: Callable[[ImapConnection], None],
    ) -> None:
        self.tls = False
        self._clock = clock
        self._begin = begin
        self._lost = lost
        self._framer = Framer()
        self._events: deque[Event] = deque()
        self._waiter: Deferred[Event] | None = None
        self._context: TLSContext | None = None
        self._handshake: Deferred[None] | None = None
        self._full = False
        self._drained: list[Deferred[None]] = []
        self._slow: Timer | None = None
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
    def peer(self) -> str:
        """``192.0.2.1:40312``, or ``unix socket``."""
        return peer_name(self._transport.getPeer())

    @property
    def _transport(self) -> Any:
        """What Twisted's interfaces do not say all of."""
        return self.transport

    # -- reading

    def next(self) -> Deferred[Event]:
        """The next thing that the client says; fails with `Gone`."""
        if self._events:
            if len(self._events) == _MOST_WAITING:
                self._transport.resumeProducing()
            return succeed(self._events.popleft())
        waiter: Deferred[Event] = Deferred()
        if self._over:
            waiter.errback(Failure(Gone()))
        else:
            self._waiter = waiter
        return waiter

    def let_in(self, wanted: bool) -> None:
        """Decide about a literal."""
        if wanted:
            self._framer.accept()
            self.write(b"+ go ahead\r\n")
        else:
            self._framer.refuse()
        self._take(b"")

    def dataReceived(self, data: bytes) -> None:
        self._take(data)

    def _take(self, data: bytes) -> None:
        for event in self._framer.feed(data):
            self._events.append(event)
            if len(self._events) == _MOST_WAITING:
                self._transport.pauseProducing()
        if self._waiter is not None and self._events:
            waiter, self._waiter = self._waiter, None
            waiter.callback(self._events.popleft())

    # -- writing

    def write(self, data: bytes) -> None:
        if not self._over:
            self._transport.write(data)

    def drained(self) -> Deferred[None]:
        """Fires when the client has taken most of what was written; fails with `Gone`."""
        waiter: Deferred[None] = Deferred()
        if self._over:
            waiter.errback(Failure(Gone()))
        elif self._full:
            self._drained.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    @property
    def holds_back(self) -> bool:
        """Whether the client has not taken yet what was written."""
        return self._full

    def pauseProducing(self) -> None:
        self._full = True
        self._slow = self._clock.callLater(_TAKEN_WITHIN, self.abort)

    def resumeProducing(self) -> None:
        self._full = False
        self._stop_watching()
        waiting, self._drained = self._drained, []
        for waiter in waiting:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` says so."""

    def _stop_watching(self) -> None:
        slow, self._slow = self._slow, None
        if slow is not None and slow.active():
            slow.cancel()

    # -- beginning and end

    def connectionMade(self) -> None:
        self._transport.registerProducer(self, True)
        if isinstance(self._transport, TLSMemoryBIOProtocol):  # the port is for TLS
            self._handshake = Deferred()
            self._handshake.addCallbacks(lambda _: self._start(), lambda _: None)
        else:
            self._start()

    def _start(self) -> None:
        done = Deferred.fromCoroutine(self._begin(self))
        done.addErrback(lambda failure: failure.trap(Gone))

    def start_tls(self, context: TLSContext) -> Deferred[None]:
        """Switch to TLS behind what was written. Fails with `ProtocolViolation` where the client has said
        something ahead of its handshake: it could be somebody else's."""
        handshake: Deferred[None] = Deferred()
        if self._events or self._framer.begun():
            handshake.errback(Failure(ProtocolViolation("plain text was sent ahead of the TLS handshake")))
            return handshake
        self._context, self._handshake = context, handshake
        self._transport.startTLS(context, True)
        return handshake

    def handshakeCompleted(self) -> None:
        waiting, self._handshake = self._handshake, None
        if waiting is None:
            return
        try:
            if self._context is not None:
                self._context.check_peer(self._transport.getHandle())
        except CyrusSyncError:
            waiting.errback(Failure())
            self.abort()
            return
        self.tls = True
        waiting.callback(None)

    def close(self) -> None:
        """The connection ends behind what was written."""
        if not self._over:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def abort(self) -> None:
        """The connection ends now."""
        if not self._over:
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._over = True
        self._stop_watching()
        waiting: list[Deferred[Any]] = [*self._drained]
        waiting += [each for each in (self._waiter, self._handshake) if each is not None]
        self._drained, self._waiter, self._handshake = [], None, None
        for waiter in waiting:
            waiter.errback(Failure(Gone()))
        self._lost(self)
