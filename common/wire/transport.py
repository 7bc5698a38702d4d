"""`CsyncProtocol`: a csync connection on a Twisted transport, the same for both ends.

Bytes come in through TLS (Twisted's) and, once agreed, DEFLATE (ours), and go to a connection without
I/O (`common.protocol.connection`); what that makes of them goes to a handler, one event after another::

    transport ─► inbox ─► inflate ─► connection.receive_data … next_event ─► handler.event
    transport ◄────────── deflate ◄─ write

The rule it guards: **a peer can make us hold a bounded number of bytes, whatever it sends or does not
read.** Data is inflated and parsed only when the handler wants the next event; a handler that returns a
Deferred gets nothing more until it has fired; what piles up meanwhile stops the reading. A server
delivers no commands while its answers go unread. (A client goes on reading whatever happens to its
writes: if both ends waited for the other to read first, neither ever would.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyrus_sync.common.errors import ConnectionLost, CyrusSyncError, ProtocolViolation, TLSFailed
from cyrus_sync.common.protocol.events import ConnectionClosed, NeedData
from cyrus_sync.common.reactor import Clock, Timer
from cyrus_sync.common.wire.deflate import Deflater
from cyrus_sync.common.wire.inbox import Inbox
from cyrus_sync.common.wire.peers import peer_name
from cyrus_sync.common.wire.silence import Silence
from cyrus_sync.common.wire.tls_settings import TLSContext

HOLD_BYTES = 256 * 1024
"""What may be buffered while the handler is busy, before reading stops."""

OUTBOX_BYTES = 64 * 1024
"""Answers are gathered up to this size before they are written."""

STORE_BYTES = 8 * 1024
"""From this size on, what is compressed already is not deflated."""

TURN_BYTES = 1024 * 1024
"""After so many bytes of one connection the others have their turn."""

LINGER_SECONDS = 10.0
"""How long a closing connection may take to deliver what is written."""

Trace = Callable[[Literal["<", ">"], bytes], None]
"""Told what is sent (``>``) and received (``<``), uncompressed and without TLS."""

_log = Logger(namespace="csync")


class Connection(Protocol):
    """What the protocol without I/O has to offer (`ServerConnection`, `ClientConnection`)."""

    @property
    def buffered(self) -> int: ...

    def receive_data(self, data: bytes) -> None: ...

    def receive_eof(self) -> None: ...

    def next_event(self) -> Any: ...

    def trailing_data(self) -> bytes:
        """Takes out what was received behind the last event."""


class EventHandler(Protocol):
    """Who listens: a server's session, a client's replica."""

    def event(self, event: Any) -> Deferred[Any] | None:
        """Called for each event in order. No more come until a returned Deferred has fired."""

    def connection_lost(self, reason: Failure) -> None:
        """Called once. `reason.value` is a `CyrusSyncError`: `ConnectionLost` unless something
        better is known."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class CsyncProtocol(TwistedProtocol):
    """One end of a csync connection. Until a handler is set, events wait."""

    transport: Any

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        *,
        server: bool,
        connected: Callable[[CsyncProtocol], None] | None = None,
    ) -> None:
        self.connection = connection
        self.clock = clock
        self.server = server
        self.trace: Trace | None = None
        self.compressed = False
        self.tls = False
        self.bytes_read = 0
        self.bytes_written = 0
        self._connected = connected
        self._handler: EventHandler | None = None
        self._inbox = Inbox()
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._deflater: Deflater | None = None
        self._pumping = False
        self._busy = False
        self._paused = False
        self._unread = False
        self._reading = True
        self._eof = False
        self._eof_told = False
        self._end_told = False
        self._closing = False
        self._lost: Failure | None = None
        self._reason: Failure | None = None
        self._next_turn: Timer | None = None
        self._linger: Timer | None = None
        self._drained: list[Deferred[None]] = []
        self._handshake: Deferred[None] | None = None
        self._tls_context: TLSContext | None = None
        self._timeout: float | None = None
        self._progress_due = False
        self._silence = Silence(clock, self._silent, self._we_keep_it_waiting)

    # -- for the owner

    @property
    def ssf(self) -> int:
        """Strength of the TLS layer in bits, 0 without one."""
        return (self.transport.getHandle().get_cipher_bits() or 0) if self.tls else 0

    @property
    def peer(self) -> str:
        """Who is at the other end, for people: ``192.0.2.1:40312`` or ``unix socket``."""
        return peer_name(self.transport.getPeer() if self.transport else None)

    @property
    def peer_certificate(self) -> Any:
        """The certificate (X509) that the peer has shown and that was verified, or None."""
        return self.transport.getPeerCertificate() if self.tls else None

    @property
    def alive(self) -> bool:
        """False once the connection is lost or being closed."""
        return self.transport is not None and not self._closing and self._lost is None

    def set_event_handler(self, handler: EventHandler | None) -> None:
        """Who gets the events from now on; None holds them back."""
        self._handler = handler
        if handler is not None and self._lost is not None:
            handler.connection_lost(self._lost)
        else:
            self._pump()

    def set_timeout(self, seconds: float | None, *, progress_due: bool = False) -> None:
        """Close the connection when the peer gives no sign of life for so long; None: never.

        Bytes that come and bytes that the peer takes are signs of life. Time in which our own handler
        keeps the peer waiting does not count, unless the peer leaves our answers unread. `progress_due`: nor
        may it go on for ever without taking bytes and without `progress` (`cyrus_sync.common.wire.silence`).
        """
        self._timeout, self._progress_due = seconds, progress_due
        if self.transport is not None and self._lost is None:
            self._silence.start(seconds, progress_due=progress_due)

    def progress(self) -> None:
        """The peer has come to the end of an answer."""
        self._silence.progress()

    def write(self, data: bytes, *, packed: bool = False) -> None:
        """Send. What is written while events are being handled is gathered: one write for an answer.

        `packed`: most of it is compressed already, so deflating it would only cost time.
        """
        if not data or not self.alive:
            return
        if packed and len(data) >= STORE_BYTES:
            self._flush()
            self._send(data, packed=True)
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if not self._pumping or self._outbox_bytes >= OUTBOX_BYTES:
            self._flush()

    def drained(self) -> Deferred[None]:
        """Fires when the peer has taken what was written, up to a socket buffer; fails when it is gone."""
        if self._lost is not None:
            return fail(self._lost)
        if self._pumping:
            self._flush()
        if not self._unread:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._drained.append(waiting)
        return waiting

    def pause(self) -> None:
        """Deliver no events, and stop reading when enough is buffered."""
        self._paused = True
        self._regulate()

    def resume(self) -> None:
        """The end of `pause`."""
        self._paused = False
        self._pump()

    def start_tls(self, context: TLSContext) -> Deferred[None]:
        """Switch to TLS at this point of the stream, after what was written.

        Fires after the handshake and the checks of `context`; fails with `TLSFailed`. Plain text that
        the peer sent ahead of its handshake could come from somebody in the middle and be taken for
        something said under TLS: the connection is dropped with `ProtocolViolation`.
        """
        if self.tls or self.compressed:
            return fail(Failure(TLSFailed("TLS or compression is already active")))
        self._flush()
        if self.connection.trailing_data() or self._inbox.pending:
            self._fail(Failure(ProtocolViolation("plain text was sent ahead of the TLS handshake")))
            return fail(self._reason)
        self._tls_context = context
        handshake: Deferred[None] = Deferred()
        self._handshake = handshake
        below = self.transport
        if hasattr(below, "startTLS"):
            below.startTLS(context, True)
            return handshake
        from cyrus_sync.common.wire.tls import layer_upon  # loads OpenSSL's bindings

        # A socket that was loaded without TLS (`common.lean`) gets it from us.
        below.unregisterProducer()
        self.transport = layer_upon(below, cast(Any, self), context, client=not self.server, clock=self.clock)
        self.transport.registerProducer(self, True)
        return handshake

    def start_deflate(self) -> None:
        """Compress what is written from now on and inflate what follows the last event."""
        self._flush()
        self._deflater = Deflater()
        self._inbox.inflate(self.connection.trailing_data())
        self.compressed = True

    def lose(self) -> None:
        """Close after everything written has been sent (but do not wait for ever for that)."""
        if self._closing or self._lost is not None or self.transport is None:
            return
        self._flush()
        self._closing = True
        self._linger = self.clock.callLater(LINGER_SECONDS, self.abort)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def give_up(self, error: CyrusSyncError) -> None:
        """Drop the connection now; everybody who waits for something hears `error`."""
        self._fail(Failure(error))

    def abort(self) -> None:
        """Drop the connection now."""
        self._closing = True
        if self.transport is not None and self._lost is None:
            if self._linger is not None and self._linger.active():
                self._linger.cancel()
            self.transport.abortConnection()

    # -- for Twisted

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)
        self.set_timeout(self._timeout, progress_due=self._progress_due)
        if self._connected is not None:
            self._connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._silence.sign(len(data))
        self.bytes_read += len(data)
        if self._closing:
            return
        self._inbox.put(data)
        if self._next_turn is None:
            self._pump()
        else:
            self._regulate()

    def handshakeCompleted(self) -> None:
        """TLS stands (IHandshakeListener); nothing that came through it has been looked at yet."""
        waiting, self._handshake = self._handshake, None
        if waiting is None or self._tls_context is None:
            return
        try:
            self._tls_context.check_peer(self.transport.getHandle())
        except CyrusSyncError:
            self._fail(Failure())
            waiting.errback(self._reason)
            return
        self.tls = True
        waiting.callback(None)
        self._pump()

    def readConnectionLost(self) -> None:
        """The peer will send no more. What it has sent is still carried out and answered."""
        self._eof = True
        self._reading = False
        self._pump()

    def writeConnectionLost(self) -> None:
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._eof = True
        self._closing = True
        if self._reason is None:
            self._reason = Failure(self._explain(reason))
            if not self.server:
                self._pump(to_the_end=True)
        self._lost = self._reason
        self._silence.stop()
        for call in (self._next_turn, self._linger):
            if call is not None and call.active():
                call.cancel()
        self._inbox.clear()
        if self._handshake is not None:
            waiting, self._handshake = self._handshake, None
            waiting.errback(self._lost)
        drained, self._drained = self._drained, []
        for each in drained:
            each.errback(self._lost)
        if self._handler is not None:
            self._handler.connection_lost(self._lost)

    def pauseProducing(self) -> None:
        """The transport holds more than it likes: the peer is not reading our answers."""
        self._unread = True
        self._regulate()

    def resumeProducing(self) -> None:
        """The peer has taken it all."""
        self._unread = False
        self._silence.progress()
        drained, self._drained = self._drained, []
        for each in drained:
            each.callback(None)
        self._pump()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    # -- inside

    def _deliverable(self, to_the_end: bool = False) -> bool:
        if self._handler is None or self._busy or self._handshake is not None:
            return False
        if to_the_end:
            return True
        return not (self._paused or self._closing or (self.server and self._unread))

    def _pump(self, to_the_end: bool = False) -> None:
        """Deliver events until the handler is busy, the input is used up, or the turn is over."""
        if self._pumping:
            return
        self._pumping = True
        budget = TURN_BYTES
        try:
            while self._deliverable(to_the_end):
                event = self.connection.next_event()
                if isinstance(event, ConnectionClosed):
                    # The grammar says so every time from now on; the handler needs to hear it once.
                    if self._end_told:
                        self.lose()
                        break
                    self._end_told = True
                if not isinstance(event, NeedData):
                    self._deliver(event)
                    continue
                if budget <= 0 and not to_the_end:
                    self._yield_turn()
                    break
                piece = self._inbox.take()
                if piece:
                    budget -= len(piece)
                    if self.trace is not None:
                        self.trace("<", piece)
                    self.connection.receive_data(piece)
                elif self._eof and not self._eof_told:
                    self._eof_told = True
                    self.connection.receive_eof()
                else:
                    if self._eof:
                        self.lose()
                    break
        except Exception:
            self._fail(Failure())
        finally:
            self._pumping = False
        self._flush()
        self._regulate()

    def _deliver(self, event: Any) -> None:
        if self._handler is None:
            return
        result = self._handler.event(event)
        if result is not None:
            self._busy = True
            result.addCallbacks(self._handled, self._handling_failed)

    def _handled(self, _: Any) -> None:
        self._busy = False
        self._silence.sign()
        self._pump()

    def _handling_failed(self, failure: Failure) -> None:
        self._busy = False
        self._fail(failure)

    def _yield_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self.clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._pump()

    def _flush(self) -> None:
        if not self._outbox or self._lost is not None or self.transport is None:
            return
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        self._send(data)

    def _send(self, data: bytes, packed: bool = False) -> None:
        if self.trace is not None:
            self.trace(">", data)
        if self._deflater is not None:
            data = self._deflater.store(data) if packed else self._deflater.compress(data)
        self.bytes_written += len(data)
        self.transport.write(data)

    def _regulate(self) -> None:
        """Read while events can be delivered, or while little is buffered."""
        if self._eof or self._closing or self.transport is None:
            return
        want = self._next_turn is None and self._deliverable()
        if not want:
            want = self._inbox.pending + self.connection.buffered < HOLD_BYTES
        if want != self._reading:
            self._reading = want
            if want:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _we_keep_it_waiting(self) -> bool:
        return (self._busy or self._paused) and not self._unread

    def _silent(self) -> None:
        why = f"no answer from {self.peer} for {self._timeout:g} seconds"
        if self._silence.dripping:
            why = f"an answer from {self.peer} comes so slowly that it does not come to an end"
        self._reason = Failure(ConnectionLost(why))
        if self._unread:
            self.abort()
        else:
            self.lose()

    def _fail(self, failure: Failure) -> None:
        """Give up: the connection is dropped and the handler told why."""
        if not failure.check(CyrusSyncError):
            _log.failure("internal error on the connection with {peer}", failure=failure, peer=self.peer)
        if self._reason is None:
            self._reason = failure
        self.abort()

    def _explain(self, reason: Failure) -> CyrusSyncError:
        if self._handshake is not None or self.tls:
            from cyrus_sync.common.wire.tls import handshake_error  # loads OpenSSL's bindings

            tls_error = handshake_error(reason, self.transport.getHandle())
            if tls_error is not None:
                return tls_error
        if reason.check(ConnectionDone):
            return ConnectionLost("connection closed")
        return ConnectionLost(f"connection lost: {reason.getErrorMessage()}")
