"""`Turns`: short calls off the reactor, one after the other in one thread, and in more where that one is held
up.

Threads that compute in Python take turns anyway. With many of them each call is a wake-up of another thread,
and each answer one of the reactor's, which costs several times the work of a call that reads a user's index.
So one thread takes all that waits. A call that is held up (a disk, a lock) holds up nobody else: after
`PATIENCE` another thread goes on with the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores.threads import DEFAULT_THREADS, ThreadRunner

T = TypeVar("T")

PATIENCE = 0.02
"""Seconds without an answer after which another thread joins."""

SLOW = 0.005
"""Seconds of a call from which on calls wait for disks rather than compute: then as many threads join at
once."""


class Turns:
    """`common.threads.Threads` over a `ThreadRunner`. All methods belong to the reactor's thread."""

    def __init__(self, reactor: Reactor, most: int = DEFAULT_THREADS) -> None:
        """At most `most` threads."""
        self._reactor = reactor
        self._most = most
        self._runner = ThreadRunner(reactor, most)
        self._waiting: deque[tuple[Deferred[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._answers = 0
        self._usual = 0.0
        """Seconds that a call takes, of late."""
        self._watching = False

    def run(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> Deferred[T]:
        """Call `function` in a thread, behind those that wait; its result, or its exception."""
        result: Deferred[T] = Deferred()
        self._waiting.append((result, lambda: function(*arguments, **keywords)))
        self._join()
        return result

    def _join(self) -> None:
        """See to it that somebody works, and that somebody else comes if that takes long."""
        wanted = min(self._most, 1 + int(self._usual / SLOW), self._threads + len(self._waiting))
        while self._threads < wanted:
            self._begin()
        if self._waiting and not self._watching and self._threads < self._most:
            self._watching = True
            self._reactor.callLater(PATIENCE, self._look, self._answers)

    def _begin(self) -> None:
        self._threads += 1
        self._runner.run(self._work).addBoth(self._ended)

    def _look(self, answers: int) -> None:
        self._watching = False
        if self._waiting and self._answers == answers and self._threads < self._most:
            self._begin()
        self._join()

    def _ended(self, _result: object) -> None:
        self._threads -= 1
        if self._waiting:
            self._join()

    def _work(self) -> None:
        """In a thread."""
        while True:
            try:
                result, call = self._waiting.popleft()
            except IndexError:
                return
            begun = time.monotonic()
            try:
                outcome: Any = call()
            except BaseException:
                outcome = Failure()
            self._reactor.callFromThread(self._answer, result, outcome, time.monotonic() - begun)

    def _answer(self, result: Deferred[Any], outcome: Any, seconds: float) -> None:
        self._answers += 1
        self._usual += (seconds - self._usual) / 32
        if isinstance(outcome, Failure):
            result.errback(outcome)
        else:
            result.callback(outcome)

    def close(self) -> None:
        """End the threads when they have finished what they are doing; blocks until then."""
        self._runner.close()
