"""The answers of one connection: in the order of the commands, gathered into as few writes as possible.

Commands run side by side; each has a `Slot` from the moment in which it was read. Whatever finishes, in
whatever order, leaves in the order of the slots. Everything that is ready in one turn of the reactor goes
out in one write (one packet, one flush of a compressor, one TLS record). An answer too large to build in
memory is sent piece by piece once its slot is the first, each piece after the peer has read the last.

Nothing else of the server writes to a connection.

>>> slot = outbox.open()
>>> slot.finish(b"OK success\\r\\n")
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from cyrus_sync.common.errors import ConnectionLost

MAX_COST = 128
"""Commands that may be under way at once; one that answers with a list counts for several."""


class Line(Protocol):
    """What an outbox needs of a connection."""

    def write(self, data: bytes) -> None: ...

    def drained(self) -> Deferred[None]:
        """Fires when the peer has read nearly all that was written."""


class Slot:
    """The place of one command's answer."""

    __slots__ = ("_outbox", "_turn", "cost", "data", "finished", "sent")

    def __init__(self, outbox: Outbox, cost: int) -> None:
        self._outbox = outbox
        self._turn: Deferred[None] | None = None
        self.cost = cost
        self.data = b""
        self.finished = False
        self.sent = False

    def finish(self, data: bytes) -> None:
        """The answer is complete with `data`."""
        self.data += data
        self.finished = True
        self._outbox.flush_soon()

    def turn(self) -> Deferred[None]:
        """Fires when every earlier answer has been written, so that `send` may be used; fails when the
        connection is gone, since then nobody would ever call."""
        if self._outbox.closed:
            return fail(ConnectionLost())
        if self._outbox.first is self:
            return succeed(None)
        self._turn = Deferred()
        return self._turn

    def send(self, data: bytes) -> Deferred[None]:
        """Write a piece of the answer now; fires when the peer has read on. Only in one's `turn`."""
        return self._outbox.write_first(self, data)

    def your_turn(self) -> None:
        """The outbox says: this slot is the first now."""
        waiting, self._turn = self._turn, None
        if waiting is not None:
            waiting.callback(None)

    def abandon(self, reason: BaseException) -> None:
        """The connection is gone; whoever waits for its turn learns it."""
        waiting, self._turn = self._turn, None
        if waiting is not None:
            waiting.errback(reason)


class Outbox:
    """The slots of a connection. `soon(f)` calls f in the reactor's next turn."""

    def __init__(self, line: Line, soon: Callable[[Callable[[], None]], Any]) -> None:
        self._line = line
        self._soon = soon
        self._slots: deque[Slot] = deque()
        self._cost = 0
        self._flushing = False
        self._unread: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._closed = False
        self.written = 0

    @property
    def first(self) -> Slot | None:
        return self._slots[0] if self._slots else None

    @property
    def empty(self) -> bool:
        """No command is under way."""
        return not self._slots

    @property
    def closed(self) -> bool:
        """The connection is gone."""
        return self._closed

    @property
    def full(self) -> bool:
        """No more commands should be read: too many are under way, or the peer does not read."""
        return self._cost >= MAX_COST or (self._unread is not None and not self._unread.called)

    def open(self, cost: int = 1) -> Slot:
        """The place of the next answer."""
        slot = Slot(self, cost)
        self._cost += cost
        self._slots.append(slot)
        return slot

    def say(self, data: bytes) -> None:
        """An answer that is known at once."""
        self.open().finish(data)

    def room(self) -> Deferred[None] | None:
        """None where more commands may be read, else something to wait for."""
        if not self.full or self._closed:
            return None
        return self._wait(lambda: not self.full)

    def idle(self) -> Deferred[None]:
        """Fires when every answer has been written."""
        if self.empty or self._closed:
            return succeed(None)
        return self._wait(lambda: self.empty)

    def _wait(self, condition: Callable[[], bool]) -> Deferred[None]:
        outer: Deferred[None] = Deferred()

        def again(_: object = None) -> None:
            if outer.called:
                return
            if condition() or self._closed:
                outer.callback(None)
                return
            step: Deferred[None] = Deferred()
            step.addCallback(again)
            self._waiting.append(step)

        again()
        return outer

    def _changed(self, _: object = None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def flush_soon(self) -> None:
        """Arrange that what is ready goes out with everything else that gets ready in this turn."""
        if not self._flushing and not self._closed and self._slots and self._slots[0].finished:
            self._flushing = True
            self._soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._closed:
            return
        ready = []
        while self._slots and self._slots[0].finished:
            slot = self._slots.popleft()
            self._cost -= slot.cost
            ready.append(slot.data)
        if ready:
            self._write(b"".join(ready))
        if self._slots:
            self._slots[0].your_turn()
        self._changed()

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self.written += len(data)
        self._line.write(data)
        if self._unread is None or self._unread.called:
            unread = self._line.drained()
            self._unread = unread
            if not unread.called:
                unread.addCallbacks(self._changed, self._changed)

    def write_first(self, slot: Slot, data: bytes) -> Deferred[None]:
        """See `Slot.send`."""
        if self._closed:
            raise ConnectionLost()
        assert self.first is slot, "an answer out of turn"
        slot.sent = True
        self._write(data)
        if self._unread is None or self._unread.called:
            return succeed(None)
        return self._wait(lambda: self._unread is None or self._unread.called)

    def close(self) -> None:
        """The connection is gone: nothing is written any more, and nobody waits."""
        self._closed = True
        slots, self._slots = self._slots, deque()
        self._cost = 0
        for slot in slots:
            slot.abandon(ConnectionLost())
        self._changed()
