"""Running the reactor until the work is over: what ends it, signals too, and the exit status."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import EX_FAILURE, EX_SOFTWARE, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.sync_client.report import log


def until_done(reactor: Reactor, begin: Callable[[], tuple[Deferred[int], Callable[[], None]]]) -> int:
    """Run the reactor until what `begin` starts is over. SIGTERM and SIGINT stop it, twice at once."""
    status: list[int] = []
    signals = 0

    def on_signal(number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(EX_TEMPFAIL)
        log.info("%s: stopping", signal.Signals(number).name)
        reactor.callFromThread(stop_now)

    def stop_now() -> None:
        """`stop` as it is by then: what begins has begun, and knows how to stop."""
        stop()

    def over(result: Any) -> None:
        if isinstance(result, int):
            status.append(result)
        else:
            error = result.value
            log.critical("%s", error if isinstance(error, CyrusSyncError) else result.getTraceback())
            status.append(error.exit_status if isinstance(error, CyrusSyncError) else EX_SOFTWARE)
        reactor.callLater(0, _stop_reactor, reactor)

    stop: Callable[[], None] = reactor.stop
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)

    def start() -> None:
        nonlocal stop
        try:
            ended, stop = begin()
        except CyrusSyncError as error:
            log.critical("%s", error)
            status.append(error.exit_status)
            reactor.stop()
        except Exception:  # nothing has begun, so nothing would ever end the reactor
            log.critical("internal error", exc_info=True)
            status.append(EX_SOFTWARE)
            reactor.stop()
        else:
            ended.addBoth(over)

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    return status[0] if status else EX_FAILURE


def _stop_reactor(reactor: Reactor) -> None:
    if reactor.running:
        reactor.stop()
