"""The children of the receiving side: started when they are needed, at most ten, kept for the next file.

One is started ahead, so that a file need not wait for that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from cyrus_sync.common.reactor import Timer
from cyrus_sync.shipping.children import Child

IDLE = 60.0
"""Seconds after which a child that has nothing to do ends."""


class ChildDied(Exception):
    """A child has ended at its work. Its exit status, 128 + signal if it was killed."""


class Worker(Protocol):
    """Our side of one child."""

    transport: Any

    def __init__(self, reactor: Any, child: Child, gone: Callable[[Worker], object]) -> None:
        self._reactor = reactor
        self._child = child
        self._gone = gone
        self._said = bytearray()
        self._waiting: Deferred[Any] | None = None
        self.used = False
        self.idle: Timer | None = None
        child.socket.setblocking(False)
        family = child.socket.family
        reactor.adoptStreamConnection(child.socket.fileno(), family, Factory.forProtocol(lambda: self))

    def do(self, job: Any, *files: int) -> Deferred[Any]:
        """Have it do a job; fires with what it says, fails with `ChildDied`."""
        waiting: Deferred[Any] = Deferred()
        self._waiting, self.used = waiting, True
        self._child.give(job, *files)
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self._said += data
        if data.endswith(b"\n"):
            said, self._said = json.loads(self._said), bytearray()
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.callback(said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone(self)
        ended: Deferred[int] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self._child.end
        )
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            ended.addCallback(lambda status: waiting.errback(ChildDied(status)))

    def end(self) -> None:
        self.transport.loseConnection()


class Workers:
    """All of them. Whoever uses them sees to it that there are not too many jobs at once."""

    def __init__(self, reactor: Any, start: Callable[[], Child]) -> None:
        self._reactor = reactor
        self._start = start
        self._all: set[Worker] = set()
        self._idle: list[Worker] = []
        self._ended = False

    def keep_one(self) -> None:
        """Have one child at least, now and whenever the last of those that have worked has ended. (A new one
        reads its configuration when it is needed.)"""
        if not self._all and not self._ended:
            with contextlib.suppress(OSError):  # a file that comes tries again, and says so
                self._idle.append(self._new())

    def _new(self) -> Worker:
        worker = Worker(self._reactor, self._start(), self._gone)
        self._all.add(worker)
        return worker

    def do(self, job: Any, *files: int) -> Deferred[Any]:
        """Have a child do a job. Fires with what it says, fails with `ChildDied`. OSError if no child can
        be started."""
        if self._idle:
            worker = self._idle.pop()
            if worker.idle is not None and worker.idle.active():
                worker.idle.cancel()
        else:
            worker = self._new()
        return worker.do(job, *files).addCallback(self._done, worker)

    def _done(self, said: Any, worker: Worker) -> Any:
        if worker in self._all:
            worker.idle = self._reactor.callLater(IDLE, worker.end)
            self._idle.append(worker)
        return said

    def end(self) -> None:
        """Let them all end."""
        self._ended = True
        for worker in list(self._all):
            worker.end()

    def _gone(self, worker: Worker) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.idle is not None and worker.idle.active():
            worker.idle.cancel()
        if worker.used:  # else there is something wrong that another one would die of as well
            self.keep_one()
