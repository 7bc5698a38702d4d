"""Reactors of the tests' own. A process of tests makes hundreds; each gives its descriptors back."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python.threadpool import ThreadPool

_made: list[Any] = []


class DaemonThreads(ThreadPool):
    """Threads that let the test run end (the report of a failure keeps the reactor alive)."""

    threadFactory = functools.partial(threading.Thread, daemon=True)


def new_reactor() -> Any:
    """A reactor that `close_reactors` ends. It uses epoll: select knows no descriptor above 1023."""
    reactor = EPollReactor()
    _made.append(reactor)
    return reactor


def make_reactor() -> Any:
    """A reactor that nobody starts or stops; the test turns it by `iterate`."""
    reactor = new_reactor()
    reactor.running = True
    reactor.threadpool = DaemonThreads(0, 10)
    reactor.threadpool.start()
    return reactor


def close_reactors() -> None:
    """Close what the reactors made since the last call hold open. They must not be used afterwards."""
    while _made:
        reactor = _made.pop()
        if reactor.threadpool is not None:
            reactor.threadpool.stop()
        for reader in list(reactor._internalReaders):
            reader.connectionLost(None)
        reactor.waker = None
        reactor._poller.close()


def open_descriptors() -> list[str]:
    """What this process has open, a name each."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except OSError:  # closed meanwhile, as that of the listing
            continue
    return found
