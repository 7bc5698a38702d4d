"""A worker's side of `supervisor`: it gets connections over a socket, and says there when one has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from cyrus_sync.common.reactor import Reactor
from cyrus_sync.sync_server.supervisor import GONE, NUMBER, READY


@implementer(IReadDescriptor)
class Dispatched:
    """Takes connections from the supervisor, as long as it is there."""

    def __init__(
        self, reactor: Reactor, control: socket.socket, factory: Factory, orphaned: Callable[[], None]
    ) -> None:
        """`orphaned` is called when the supervisor is gone."""
        self._reactor: Any = reactor
        self._control = control
        self._factory = factory
        self._orphaned = orphaned

    def begin(self) -> None:
        """Tell that connections may come."""
        self._reactor.addReader(self)
        self._control.send(READY)

    def stop(self) -> None:
        """Take no more."""
        self._reactor.removeReader(self)

    # -- IReadDescriptor

    def fileno(self) -> int:
        return self._control.fileno()

    def logPrefix(self) -> str:
        return "supervisor"

    def doRead(self) -> None:
        try:
            told, descriptors, _, _ = socket.recv_fds(self._control, 64, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            told, descriptors = b"", []
        if not told:
            self.stop()
            self._orphaned()
            return
        for descriptor in descriptors:
            self._take(NUMBER.unpack(told)[0], descriptor)

    def connectionLost(self, _reason: Any) -> None:
        """The reactor ends."""

    def _take(self, number: int, descriptor: int) -> None:
        with socket.socket(fileno=os.dup(descriptor)) as asked:
            family = asked.family
        os.set_blocking(descriptor, False)
        try:
            factory = _Counted(self._factory, number, self._gone)
            self._reactor.adoptStreamConnection(descriptor, family, factory)
        except OSError:  # the peer has gone meanwhile
            self._gone(number)
        finally:
            os.close(descriptor)

    def _gone(self, number: int) -> None:
        try:
            self._control.send(GONE + NUMBER.pack(number))
        except OSError:
            return  # nobody counts any more


class _Counted(Factory):
    """Makes one protocol, and tells when its connection has ended."""

    noisy = False

    def __init__(self, factory: Factory, number: int, gone: Callable[[int], None]) -> None:
        self._inner = factory
        self._number = number
        self._gone = gone

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        made: Any = self._inner.buildProtocol(addr)
        lost = made.connectionLost

        def ended(*reason: Any) -> None:
            try:
                lost(*reason)
            finally:
                self._gone(self._number)

        made.connectionLost = ended
        return made  # type: ignore[no-any-return] # as the inner one
