"""A reactor that runs beside a command, for the one connection that the command has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.csync.line import Line
from cyrus_sync.shipping.loop import own_reactor


@contextmanager
def line_to(settings: ClientSettings) -> Iterator[Line]:
    """A `Line` to a csync server, as long as the context lasts. Nothing is connected before it is used."""
    with own_reactor() as reactor:
        threads = ThreadRunner(reactor, 2, "csync")
        line = Line(reactor, settings, threads)
        running = threading.Thread(
            target=reactor.run, kwargs={"installSignalHandlers": False}, name="csync", daemon=True
        )
        started = threading.Event()
        reactor.callWhenRunning(started.set)
        running.start()
        started.wait()
        try:
            yield line
        finally:
            line.close()
            reactor.callFromThread(reactor.stop)
            running.join()
