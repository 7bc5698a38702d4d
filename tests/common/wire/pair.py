"""Two ends of a connection joined in memory: a client's transport and a server's, with a wire of chosen
grain between them, and a clock that stands still."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.common.protocol.connection import ClientConnection, ServerConnection
from cyrus_sync.common.protocol.events import Event, NeedData


class Wire:
    """One end: what `CsyncProtocol` is to its owner."""

    def __init__(self, connection: ClientConnection | ServerConnection) -> None:
        self.connection = connection
        self.other: Wire
        self.handler: Any = None
        self.timeout: float | None = None
        self.sent: list[bytes] = []
        self.inbox: deque[bytes] = deque()
        self.blocked = False
        """While true, the peer takes nothing: `drained` does not fire."""
        self.gone: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        self._busy = False

    def set_event_handler(self, handler: Any) -> None:
        self.handler = handler

    def set_timeout(self, seconds: float | None, *, progress_due: bool = False) -> None:
        self.timeout = seconds

    def progress(self) -> None:
        pass

    def write(self, data: bytes, *, packed: bool = False) -> None:
        if self.gone is None:
            self.sent.append(data)
            self.other.inbox.append(data)

    def drained(self) -> Deferred[None]:
        if self.gone is not None:
            return fail(self.gone)
        if not self.blocked:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def unblock(self) -> None:
        self.blocked = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def lose(self) -> None:
        self.cut("connection closed")
        self.other.cut("connection closed")

    def cut(self, why: str = "connection lost") -> None:
        """The connection ends here."""
        if self.gone is not None:
            return
        self.gone = Failure(ConnectionLost(why))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(self.gone)
        if self.handler is not None:
            self.handler.connection_lost(self.gone)

    def pump(self, grain: int) -> bool:
        """Deliver what has come, `grain` bytes at a time; True if there was anything to do."""
        worked = False
        while not self._busy and self.gone is None:
            event = self.connection.next_event()
            if isinstance(event, NeedData):
                if not self.inbox:
                    break
                data = self.inbox.popleft()
                if len(data) > grain:
                    self.inbox.appendleft(data[grain:])
                self.connection.receive_data(data[:grain])
                continue
            worked = True
            held = self.handler.event(event)
            if held is not None and not held.called:
                self._busy = True
                held.addBoth(self._free)
        return worked

    def _free(self, result: Any) -> None:
        self._busy = False


class ScriptedServer:
    """Notes every event and answers commands as `answer` says: bytes, or None for ``OK success``."""

    def __init__(self, wire: Wire, answer: Callable[[Event], bytes | None]) -> None:
        self.wire = wire
        self.events: list[Event] = []
        self.answer = answer
        self.lost = False

    def event(self, event: Any) -> None:
        self.events.append(event)
        if type(event).__name__ in ("DlistCommand", "SessionCommand", "Refused"):
            said = self.answer(event)
            self.wire.write(b"OK success\r\n" if said is None else said)

    def connection_lost(self, reason: Failure) -> None:
        self.lost = True


class ConnectionPair:
    """A client that is logged in and a scripted server."""

    def __init__(
        self, answer: Callable[[Any], bytes | None] = lambda event: None, grain: int = 65536
    ) -> None:
        self.client = Wire(ClientConnection())
        server = ServerConnection()
        server.authenticated = True
        self.far = Wire(server)
        self.client.other, self.far.other = self.far, self.client
        self.server = ScriptedServer(self.far, answer)
        self.far.set_event_handler(self.server)
        self.grain = grain
        self.client.connection.receive_data(b"* SIEVE-MAILBOX\r\n* OK ready\r\n")
        while not isinstance(self.client.connection.next_event(), NeedData):
            pass

    def run(self) -> None:
        """Let both ends talk until neither has anything to say."""
        while self.far.pump(self.grain) or self.client.pump(self.grain):
            pass


class LateThreads:
    """A `ThreadRunner` whose calls wait until `step` runs them."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self.jobs.append((result, function, arguments))
        return result

    def step(self) -> bool:
        if not self.jobs:
            return False
        result, function, arguments = self.jobs.popleft()
        try:
            value = function(*arguments)
        except Exception:
            result.errback(Failure())
        else:
            result.callback(value)
        return True
