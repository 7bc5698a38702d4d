"""Commands one behind the other on a connection, their replies matched in order.

`Pipeline` is what a `CsyncProtocol` delivers its events to. `call` sends a command, or several that belong
together, and fires when all of them are answered; nothing waits for the answer before. Calls take effect,
and their Deferreds fire, in the order of the calls.

A reply of NO (or BAD: the stream is in step after it) fails its call alone. When the connection is lost, or
the server says BYE or breaks the grammar, every call that is not finished fails with a `PeerError`.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure

from cyrus_sync.common.errors import (
    ConnectionLost,
    CyrusSyncError,
    ProtocolError,
    ProtocolViolation,
    QuietLogout,
    ReplyError,
    reply_error,
)
from cyrus_sync.common.metrics.codes import code_of_reply
from cyrus_sync.common.protocol.events import Challenge, ConnectionClosed, Fatal, Reply
from cyrus_sync.common.wire.bandwidth import Limiter
from cyrus_sync.common.wire.collect import Collector, Runner
from cyrus_sync.common.wire.imap import ImapCommands
from cyrus_sync.common.wire.outgoing import Piece

if TYPE_CHECKING:
    from cyrus_sync.common.wire.transport import CsyncProtocol

Replies = MutableMapping[tuple[str, str], int]
"""Replies by command and code; one that is not there counts as 0 (a `collections.Counter`)."""

MAX_CALLS = 128
"""Calls under way above which `ready` waits, until half of them are answered."""
MAX_QUEUED = 4 * 1024 * 1024
"""Bytes of commands waiting to be written above which `ready` waits."""
MAX_STREAMS = 4
"""Commands whose pieces are still to be made, above which `ready` waits: whoever would prepare more takes the
processor from those who make them."""
DRAIN_AT = 256 * 1024
"""After so many bytes the writer waits until the transport has taken them."""
EXIT_SECONDS = 10.0


class _Call:
    """A verb under way. `error` is what it will fail with whatever the replies say."""

    __slots__ = ("address", "collector", "error", "fired", "pieces", "result", "size")

    def __init__(
        self, pieces: bytes | Iterator[Piece], collector: Collector, address: dict[str, str | None]
    ) -> None:
        self.pieces = pieces
        self.size = len(pieces) if isinstance(pieces, bytes) else 0
        self.collector = collector
        self.address = address
        self.result: Deferred[Any] = Deferred()
        self.error: Exception | None = None
        self.fired = False


class Pipeline:
    """The client's end of a connection that is logged in."""

    def __init__(
        self,
        proto: CsyncProtocol,
        run: Runner | None = None,
        timeout: float | None = None,
        imap: ImapCommands | None = None,
        replies: Replies | None = None,
    ) -> None:
        """`replies`: where they are counted, by command and code."""
        self.proto = proto
        self._imap = imap
        self._replies = replies
        self.run = run or maybeDeferred
        self._timeout = timeout
        self._waiting: deque[_Call] = deque()
        """Not yet written, or being written (the first)."""
        self._asked: deque[tuple[_Call, bool]] = deque()
        """A reply each, in order; (call, False) marks the end of a call without one of its own."""
        self._queued = 0
        self._streams = 0
        self._calls = 0
        self._written = 0
        self._sending = False
        self._ready: list[Deferred[None]] = []
        self._lost: CyrusSyncError | None = None
        self._closing: list[Deferred[None]] = []
        self._gone = False
        self._on_lost: Callable[[Exception], None] | None = None
        self.limiter: Limiter | None = None
        """What holds streams back; None: nothing does."""
        proto.set_event_handler(self)

    # -- for the owner

    def call(
        self,
        pieces: bytes | Iterator[Piece],
        collector: Collector,
        address: dict[str, str | None],
    ) -> Deferred[Any]:
        """Send a line, or pieces that a thread makes; what `collector` found, or the failure."""
        if self._lost is not None:
            return fail(_copy(self._lost).at(**address))
        call = _Call(pieces, collector, address)
        self._calls += 1
        self._queued += call.size
        self._streams += not isinstance(pieces, bytes)
        self._waiting.append(call)
        if not self._sending:
            self._send()
        return call.result

    def ready(self) -> Deferred[None]:
        """Fires when another call may be made without queueing more than the bounds."""
        if self._lost is not None or (
            self._calls < MAX_CALLS and self._queued < MAX_QUEUED and self._streams < MAX_STREAMS
        ):
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._ready.append(waiting)
        return waiting

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        """Have `lost` called once when the connection ends other than by `close`."""
        if self._lost is not None and not self._closing:
            lost(self._lost)
        else:
            self._on_lost = lost

    def close(self) -> Deferred[None]:
        """EXIT behind all that is under way, then disconnect. Fires when that is done, never fails."""
        if self._gone:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        if len(self._closing) == 1:
            self._on_lost = None
            self._timeout = EXIT_SECONDS
            self.call(b"EXIT\r\n", Collector(), {"command": "EXIT"}).addBoth(lambda _: self.proto.lose())
        return done

    # -- sending

    def _send(self) -> None:
        """Write what can be written at once; hand the rest to `_send_slowly`."""
        while self._waiting and self._written < DRAIN_AT:
            call = self._waiting[0]
            if not isinstance(call.pieces, bytes):
                break
            self._waiting.popleft()
            self._queued -= call.size
            if self.limiter is not None:
                self.limiter.spend(call.size)
            self._write(call, Piece(call.pieces, 1))
        if self._waiting and not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send_slowly()).addErrback(self._sender_failed)

    async def _send_slowly(self) -> None:
        try:
            while self._waiting:
                await self._drain()
                call = self._waiting[0]
                if not isinstance(call.pieces, bytes):
                    await self._stream(call, call.pieces)
                    if self._lost is not None:
                        return
                    self._waiting.popleft()
                    self._streams -= 1
                    self._asked.append((call, False))
                    self._finish_answered()
                self._send()
                self._let_in()
        finally:
            self._sending = False

    async def _drain(self) -> None:
        self._written = 0
        await self.proto.drained()

    async def _stream(self, call: _Call, pieces: Iterator[Piece]) -> None:
        """The next piece is made while the last is being taken by the transport."""
        upcoming = self.run(next, pieces, None)
        try:
            while self._lost is None:
                try:
                    piece = await upcoming
                except Exception as error:
                    call.error = call.error or error
                    return
                if piece is None or self._lost is not None:
                    return
                upcoming = self.run(next, pieces, None)
                if self.limiter is None:
                    self._write(call, piece)
                else:
                    await self._write_slowly(call, piece, self.limiter)
                if self._written >= DRAIN_AT:
                    await self._drain()
        finally:
            upcoming.addBoth(lambda _: self.run(_close, pieces))
            upcoming.addErrback(lambda _: None)

    async def _write_slowly(self, call: _Call, piece: Piece, limiter: Limiter) -> None:
        """The same, no faster than is allowed."""
        begin, commands = 0, piece.commands
        while begin < len(piece.data) and self._lost is None:
            end = begin + (limiter.grain() or len(piece.data))
            part = piece.data[begin:end]
            await limiter.turn(len(part))
            if self._lost is None:
                self._write(call, Piece(part, commands, piece.packed))
            begin, commands = end, 0

    def _write(self, call: _Call, piece: Piece) -> None:
        if self._imap is not None:
            piece = self._imap.tagged(piece)
        was_idle = not self._asked
        self._asked.extend((call, True) for _ in range(piece.commands))
        if was_idle and self._asked and self._timeout is not None:
            self.proto.set_timeout(self._timeout, progress_due=True)
        if piece.data:
            self._written += len(piece.data)
            self.proto.write(piece.data, packed=piece.packed)

    def _sender_failed(self, failure: Failure) -> None:
        """The transport is gone (or we are wrong, which ends the connection too)."""
        if self._lost is None:
            error = failure.value
            self._fail_all(error if isinstance(error, CyrusSyncError) else ConnectionLost(repr(error)))
            self.proto.lose()

    # -- what the server says

    def event(self, event: Any) -> Deferred[Any] | None:
        """Called by the transport for each event in order."""
        if self._lost is not None or isinstance(event, ConnectionClosed):
            return None  # connection_lost follows
        if isinstance(event, Reply):
            self._reply(event)
            return None
        if isinstance(event, Fatal):
            self._break(ProtocolViolation(f"received bad response: {event.reply.decode('utf-8', 'replace')}"))
            return None
        if not self._asked or isinstance(event, Challenge):
            self._break(ProtocolViolation(f"the server speaks unasked: {event!r:.200}"))
            return None
        call = self._asked[0][0]
        try:
            held = call.collector.add(event, self.run)
        except ReplyError as error:
            call.error = call.error or ProtocolError(f"bad answer of the replica: {error.message}")
            return None
        if held is not None:
            held.addErrback(self._collecting_failed, call)
        return held

    def _collecting_failed(self, failure: Failure, call: _Call) -> None:
        if call.error is None and isinstance(failure.value, Exception):
            call.error = failure.value

    def _reply(self, reply: Reply) -> None:
        if reply.status == "BYE":
            self._break(QuietLogout(f"the server says BYE {reply.text}".rstrip()))
            return
        if not self._asked:
            self._break(ProtocolViolation(f"a reply to nothing: {reply.status} {reply.text}"))
            return
        call, _ = self._asked.popleft()
        self.proto.progress()
        if self._replies is not None:
            command = call.address.get("command") or "other"
            self._replies[command, code_of_reply(reply.status, reply.text)] += 1
        if reply.status != "OK" and call.error is None:
            call.error = reply_error(reply.text).at(reply=f"{reply.status} {reply.text}")
        if isinstance(call.pieces, bytes):
            self._finish(call)
        self._finish_answered()
        if not self._asked and self._timeout is not None:
            self.proto.set_timeout(None)

    def _finish_answered(self) -> None:
        """Finish calls of which all replies have come."""
        while self._asked and not self._asked[0][1]:
            self._finish(self._asked.popleft()[0])

    def _finish(self, call: _Call) -> None:
        self._calls -= 1
        if call.fired:
            return
        call.fired = True
        error: Exception | None = call.error
        result = None
        if error is None:
            try:
                result = call.collector.result()
            except ReplyError as bad:
                error = bad
        if error is None:
            call.result.callback(result)
        else:
            call.result.errback(error.at(**call.address) if isinstance(error, CyrusSyncError) else error)
        self._let_in()

    def _let_in(self) -> None:
        if self._ready and (
            self._lost
            or (
                self._calls <= MAX_CALLS // 2
                and self._queued <= MAX_QUEUED // 2
                and self._streams <= MAX_STREAMS // 2
            )
        ):
            ready, self._ready = self._ready, []
            for waiting in ready:
                waiting.callback(None)

    # -- the end

    def _break(self, error: CyrusSyncError) -> None:
        """Nothing more can come of this connection."""
        self._fail_all(error)
        self.proto.lose()

    def connection_lost(self, reason: Failure) -> None:
        """Called once by the transport."""
        self._gone = True
        error = reason.value
        self._fail_all(error if isinstance(error, CyrusSyncError) else ConnectionLost(str(error)))
        for done in self._closing:
            done.callback(None)

    def _fail_all(self, error: CyrusSyncError) -> None:
        if self._lost is not None:
            return
        self._lost = error
        calls = [call for call, _ in self._asked] + list(self._waiting)
        self._asked.clear()
        self._waiting.clear()
        self._queued = self._streams = 0
        for call in calls:
            if not call.fired:
                call.fired = True
                call.result.errback(_copy(error).at(**call.address))
        self._calls = 0
        self._let_in()
        lost, self._on_lost = self._on_lost, None
        if lost is not None:
            lost(error)


def _copy(error: CyrusSyncError) -> CyrusSyncError:
    """The same error with an address of its own."""
    twin = copy.copy(error)
    twin.address = dict(error.address)
    return twin


def _close(pieces: Any) -> None:
    """Let a generator that is not run to its end release what it holds."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
