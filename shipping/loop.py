"""Conversations with other hosts, for code that waits for their end.

A child that takes a file hears its sender by way of a reactor, and so does a sender under TLS. Without TLS a
sender does not need one (`cyrus_sync.shipping.call`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

Result = TypeVar("Result")
Work = Callable[[Any], Coroutine[Deferred[Any], Any, Result]]


def wait_for(work: Work[Result]) -> Result:
    """What `work`, given a reactor, comes to. The reactor is made for it: a process may wait many times.

    Raises what `work` does, and KeyboardInterrupt for SIGINT if that is how the process takes it."""
    with own_reactor() as reactor, _interruptible(reactor) as interrupted:
        outcome: list[Any] = []

        def end(result: Any) -> None:
            outcome.append(result)
            if reactor.running:
                reactor.stop()

        def begin() -> None:
            Deferred.fromCoroutine(work(reactor)).addBoth(end)

        reactor.callWhenRunning(begin)
        reactor.run(installSignalHandlers=False)
    if interrupted or not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    found: Result = outcome[0]
    return found


@contextlib.contextmanager
def own_reactor() -> Iterator[Any]:
    """A reactor that has not run, and leaves no open file behind."""
    reactor = EPollReactor()
    try:
        yield reactor
    finally:
        if reactor.waker:
            reactor.removeReader(reactor.waker)
            reactor.waker.connectionLost(None)
        reactor._poller.close()


@contextlib.contextmanager
def _interruptible(reactor: Any) -> Iterator[list[int]]:
    """Twisted would log a KeyboardInterrupt and go on. So SIGINT stops the reactor meanwhile."""
    came: list[int] = []
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield came
        return

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        reactor.callFromThread(reactor.stop)

    signal.signal(signal.SIGINT, stop)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
