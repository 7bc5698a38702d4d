"""Running a coroutine to its end for a command that speaks to a server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.reactor import Reactor, installed


def in_reactor(
    work: Callable[[Reactor], Coroutine[Any, Any, int]], stop: Callable[[], object] | None = None
) -> int:
    """Run the reactor until `work` is over; its result. Once a process. `stop` is called at SIGTERM and
    SIGINT; without it they end the reactor, and the command."""
    reactor = installed()
    outcome: list[Any] = []

    def over(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(over)

    reactor.callWhenRunning(begin)
    if stop is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(stop))
    reactor.run(installSignalHandlers=stop is None)
    if not outcome:
        raise KeyboardInterrupt
    if isinstance(outcome[0], int):
        return outcome[0]
    raise outcome[0].value
