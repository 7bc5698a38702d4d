"""What we use of a Twisted reactor, as protocols: Twisted's own fits, and what tests have in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater


class Timer(Protocol):
    """A call that is due later."""

    def active(self) -> bool: ...

    def cancel(self) -> object: ...


class Clock(Protocol):
    """Tells the time (seconds) and calls back."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> Any:
        """Returns a `Timer`."""


class Reactor(Clock, Protocol):
    """The loop of a process. All but `callFromThread` is for its own thread."""

    running: bool

    def run(self, installSignalHandlers: bool = True) -> None:
        """Until `stop`."""

    def stop(self) -> None: ...

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kw: Any) -> object: ...

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> object: ...

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Have something called on the way up or down; what `removeSystemEventTrigger` takes."""

    def removeSystemEventTrigger(self, triggerID: Any) -> object: ...

    def resolve(self, name: str, timeout: Sequence[float] = ...) -> Deferred[str]:
        """The numeric address of a name."""

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort: ...

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort: ...

    def addReader(self, reader: Any) -> object: ...

    def removeReader(self, reader: Any) -> object: ...


def installed() -> Reactor:
    """The process's own reactor, which is made by the first call."""
    from twisted.internet import reactor

    return cast(Reactor, reactor)


def pause(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires so many seconds later; may be cancelled."""
    return deferLater(cast(Any, clock), seconds, lambda: None)
