"""One connection between two hosts: lines and octets, in clear, sealed or under TLS.

Whoever converses awaits what comes, one thing at a time (`line`, `exactly`, `body`), and says what there is
to say. Little more is read than somebody waits for, so the other side cannot fill our memory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.reactor import Clock, Timer
from cyrus_sync.common.wire.tls_settings import TLSContext
from cyrus_sync.shipping.call import LONGEST_LINE
from cyrus_sync.shipping.errors import Broken, Refused
from cyrus_sync.shipping.sealing import RECORD, TAG, Opener, Sealer

_LAST_WORD = 5.0
_HELD = 2 * (RECORD + TAG)
"""Octets that may wait here before the other side has to."""

DRAINED = 64 * 1024 * 1024
"""Octets of somebody who has not heard yet that no more is wanted."""

_READ = 1024 * 1024
"""Octets that are read from the socket at once."""


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Talk(Protocol):
    """A conversation. `made` is called when there is a connection, `gone` when there is none any more."""

    transport: Any

    def __init__(
        self,
        clock: Clock,
        made: Callable[[Talk], object] = lambda _: None,
        gone: Callable[[Talk], object] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.timed_out = False
        self._sealer: Sealer | None = None
        self._made = made
        self._gone = gone
        self._inbox = bytearray()
        self._take: Callable[[], Any] | None = None
        self._waiting: Deferred[Any] | None = None
        self._body: _Body | None = None
        self._opener: Opener | None = None
        self._context: TLSContext | None = None
        self._handshake: Deferred[None] | None = None
        self._reason: Exception | None = None
        self._ended = False
        self._lost = False
        self._deaf_for: int | None = None
        self._reading = True
        self._silence: float | None = None
        self._silent: Timer | None = None
        self._deadline: Timer | None = None

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return str(getattr(self.transport.getPeer(), "host", "")) or "a peer that has gone"

    @property
    def alive(self) -> bool:
        return self._reason is None and not self._ended

    # -- time

    def be_patient(self, seconds: float | None) -> None:
        """Give up when nothing comes for so long."""
        self._silence = seconds
        self._hear()

    def until(self, seconds: float | None) -> None:
        """Give up after so long, whatever comes. None: no more."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.clock.callLater(seconds, self._too_late)

    def taken(self) -> None:
        """The other side has taken what was sent: it is not silent."""
        self._hear()

    def _hear(self) -> None:
        if self._silent is not None and self._silent.active():
            self._silent.cancel()
        self._silent = None
        if self._silence is not None and self.alive:
            self._silent = self.clock.callLater(self._silence, self._too_late)

    def _too_late(self) -> None:
        self.timed_out = True
        self.give_up(Broken("timed out"))

    # -- hearing

    def line(self, longest: int = LONGEST_LINE) -> Deferred[str]:
        """The next line, without its end. `Refused` if it is longer than `longest` octets."""

        def take() -> str | None:
            end = self._inbox.find(b"\n")
            if end > longest or (end < 0 and len(self._inbox) > longest):
                raise Refused("a line that is too long")
            if end < 0:
                return None
            found = bytes(self._inbox[:end])
            del self._inbox[: end + 1]
            return found.decode("utf-8", "replace")

        return self._wait_for(take)

    def exactly(self, count: int) -> Deferred[bytes]:
        """The next `count` octets."""

        def take() -> bytes | None:
            if len(self._inbox) < count:
                return None
            found = bytes(self._inbox[:count])
            del self._inbox[:count]
            return found

        return self._wait_for(take)

    def body(self, size: int, put: Callable[[bytes], object]) -> Deferred[None]:
        """Give the next `size` octets to `put`, in pieces as they come: what is sealed goes to `open_piece`
        before it is what was sent. Fires when `put` has them all. What `put` raises (OSError, `Refused`) ends
        the body, but not the conversation."""
        self._body = body = _Body(size, put)
        if self._inbox:
            body.error = Refused("the data came before it was asked for")

        def take() -> bool | None:
            if body.error is not None:
                raise body.error
            return True if body.left <= 0 else None

        return self._wait_for(take).addBoth(self._end_body)

    def _end_body(self, result: Any) -> Any:
        self._body = None
        return result if isinstance(result, Failure) else None

    @property
    def open_piece(self) -> Callable[[bytes], bytes]:
        """What makes of a piece of a body what was sent. To be called in order, in any one thread."""
        return self._opener.open if self._opener else bytes

    def _wait_for(self, take: Callable[[], Any]) -> Deferred[Any]:
        if self._waiting is not None:
            raise AssertionError("two wait for one connection")
        self._take = take
        waiting: Deferred[Any] = Deferred()
        self._waiting = waiting
        self._look()
        return waiting

    def _look(self) -> None:
        """Whether there is what somebody waits for."""
        if self._waiting is not None and self._take is not None:
            waiting, found = self._waiting, None
            try:
                found = self._take()
                if found is None and not self.alive:
                    raise self._reason or Broken("the other side has closed the connection")
            except (CyrusSyncError, OSError):
                self._waiting = None
                waiting.errback(Failure())
            else:
                if found is not None:
                    self._waiting = None
                    waiting.callback(found)
        self._regulate()

    def _regulate(self) -> None:
        wanted = self._waiting is not None or len(self._inbox) < _HELD
        if wanted != self._reading and self.transport is not None and self.alive:
            self._reading = wanted
            (self.transport.resumeProducing if wanted else self.transport.pauseProducing)()

    # -- saying

    def say(self, data: str | bytes) -> None:
        """Say a line (text, its end is added), or octets as they are."""
        octets = data if isinstance(data, bytes) else data.encode("utf-8", "replace") + b"\n"
        if self._reason is None:
            self.transport.writeSequence(self._sealer.records(octets) if self._sealer else [octets])

    def refuse(self, text: str) -> Deferred[None]:
        """Say no, and hear what comes for a moment, so that whoever is speaking hears it. Fires when the
        connection is closed."""
        if self._reason is not None:
            return succeed(None)
        self.say("NO " + "".join(c if c.isprintable() else "?" for c in text)[:500])
        self._deaf_for = DRAINED
        self.until(_LAST_WORD)
        self.be_patient(None)
        closed = self._closed()
        if self._ended:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        return closed

    # -- layers

    def seal(self, sending: bytes, receiving: bytes) -> None:
        """What is said from now on is sealed."""
        self._no_more_in_clear()
        self._sealer, self._opener = Sealer(sending), Opener(receiving)

    def start_tls(self, context: TLSContext, *, client: bool) -> Deferred[None]:
        """TLS from now on. Fires when it stands and `context` has looked at the other side's certificate."""
        from twisted.protocols.tls import TLSMemoryBIOFactory  # not loaded where there is no TLS

        self._no_more_in_clear()
        if not self.alive:
            return fail(self._reason or Broken("the other side has closed the connection"))
        self._context = context
        handshake: Deferred[None] = Deferred()
        self._handshake = handshake
        # As `transport.startTLS` does, which would gather what is written by the one global reactor's clock.
        below = self.transport
        above = cast(IProtocolFactory, Factory.forProtocol(lambda: self))
        layer = TLSMemoryBIOFactory(cast(Any, context), client, above, cast(IReactorTime, self.clock))
        below.protocol = layer.buildProtocol(below.getPeer())
        below.protocol.makeConnection(below)
        return handshake

    def _no_more_in_clear(self) -> None:
        if self._inbox:
            raise Refused("something was said in clear that is to be said after the greeting")

    def exported(self, label: bytes) -> bytes:
        """32 octets that both ends of this TLS connection know and nobody between them; b"" without TLS."""
        if self._context is None:
            return b""
        found: bytes = self.transport.getHandle().export_keying_material(label, 32)
        return found

    # -- the end

    def lose(self) -> Deferred[None]:
        """Close after what was said. Fires when it is closed."""
        if self.transport is None or self._lost:
            return succeed(None)
        closed = self._closed()
        if self._reason is None:
            self.transport.loseConnection()
        return closed

    def _closed(self) -> Deferred[None]:
        closed: Deferred[None] = Deferred()
        before = self._gone

        def gone(talk: Talk) -> None:
            before(talk)
            closed.callback(None)

        self._gone = gone
        return closed

    def give_up(self, error: Exception) -> None:
        """Drop the connection now; whoever waits for something hears `error`."""
        if self._reason is None:
            self._reason = error
            self._stop_timers()
            if self.transport is not None:
                self.transport.abortConnection()
            self._look()
            if self._handshake is not None:
                handshake, self._handshake = self._handshake, None
                handshake.errback(error)

    def give_way(self) -> None:
        """Drop the connection: another one has its place."""
        self.give_up(Broken("another one has its place"))

    def detach(self, reactor: Any) -> int:
        """Take the connection out of the hands of `reactor`: a descriptor of it, which the caller closes."""
        self._stop_timers()
        reactor.removeReader(self.transport)
        reactor.removeWriter(self.transport)
        handle = self.transport.getHandle()
        descriptor = os.dup(handle.fileno())
        handle.close()
        self._reason, self._lost = Broken("it is another process's"), True
        return descriptor

    def _stop_timers(self) -> None:
        self._silence = None
        for timer in (self._silent, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()

    # -- for Twisted

    def connectionMade(self) -> None:
        if self._context is not None:
            return  # once more, above TLS
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.bufferSize = _READ
        self.transport.SEND_LIMIT = 2 * RECORD  # a record at once
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        if self._reason is not None:
            return
        self._hear()
        try:
            self._received(data)
        except (Refused, OSError) as error:
            self.give_up(error)
            return
        self._look()

    def _received(self, data: bytes) -> None:
        if self._opener is None:
            self._came(data, len(data))
            return
        for record in self._opener.split(data):
            self._came(record, len(record) - TAG)

    def _came(self, piece: bytes, length: int) -> None:
        body = self._body
        if self._deaf_for is not None:
            self._deaf_for -= length
            if self._deaf_for < 0:
                raise Broken("it goes on and on")
        elif body is None or body.left <= 0 or body.error is not None:
            self._inbox += self.open_piece(piece)
        else:
            try:
                body.put(piece)
            except (CyrusSyncError, OSError) as error:
                body.error = error
                self._deaf_for = DRAINED
            body.left -= length

    def handshakeCompleted(self) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is None or self._context is None:
            return
        try:
            self._context.check_peer(self.transport.getHandle())
        except Exception as error:
            self.give_up(error)
            handshake.errback(error)
            return
        handshake.callback(None)

    def readConnectionLost(self) -> None:
        self._ended = True
        self._look()
        if self._deaf_for is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timers()
        self._lost = True
        if self._reason is None:
            done = reason.check(ConnectionDone)
            self._reason = Broken(
                "the other side has closed the connection" if done else reason.getErrorMessage()
            )
        self._look()
        if self._handshake is not None:
            handshake, self._handshake = self._handshake, None
            handshake.errback(self._explained(reason))
        self._gone(self)

    def _explained(self, reason: Failure) -> Exception:
        from cyrus_sync.common.wire.tls import handshake_error  # not loaded where there is no TLS

        return handshake_error(reason, self.transport.getHandle()) or self._reason or Broken("broken off")


def adopt(reactor: Any, connection: int, talk: Talk) -> None:
    """Have `talk` go on with a connected socket, which it closes."""
    with socket.socket(fileno=connection) as sock:
        sock.setblocking(False)
        reactor.adoptStreamConnection(sock.fileno(), sock.family, Factory.forProtocol(lambda: talk))


class _Body:
    """What is left of a body that is coming, and why no more of it is wanted."""

    def __init__(self, size: int, put: Callable[[bytes], object]) -> None:
        self.left = size
        self.put = put
        self.error: Exception | None = None
