"""Ask saslauthd(8) whether a password is right, without waiting for it on the reactor.

One question per connection to its UNIX socket: user, password, service and realm, each as a 16-bit
length (network order) and its bytes; the answer is such a string too, ``OK…`` or ``NO…``.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.reactor import Reactor

SERVICE = "csync"
TIMEOUT_SECONDS = 30.0
"""saslauthd may have to ask somebody else (LDAP, IMAP), who may take his time."""

MAX_FIELD = 1024
_log = Logger(namespace="csync.saslauthd")


def request(user: str, password: str, realm: str, service: str = SERVICE) -> bytes:
    """The question as it is sent. Raises ValueError for what saslauthd would not take."""
    fields = [each.encode("utf-8") for each in (user, password, service, realm)]
    if any(len(each) > MAX_FIELD or b"\0" in each for each in fields):
        raise ValueError("too long, or with a NUL")
    return b"".join(struct.pack("!H", len(each)) + each for each in fields)


class Saslauthd:
    """The daemon behind the socket at `path`: a directory with ``mux`` in it, or the socket itself."""

    def __init__(self, reactor: Reactor, path: str | Path, timeout: float = TIMEOUT_SECONDS) -> None:
        self._reactor = reactor
        self.path = Path(path)
        self._timeout = timeout

    async def check(self, user: str, password: str, realm: str = "") -> bool:
        """True if the daemon says OK. Raises `StoreError` when there is no answer to be had."""
        try:
            question = request(user, password, realm)
        except ValueError:
            return False
        path = self.path / "mux" if self.path.is_dir() else self.path
        endpoint = UNIXClientEndpoint(self._reactor, str(path), timeout=self._timeout)
        try:
            asking: _Question = await connectProtocol(endpoint, _Question())
        except Exception as error:
            raise StoreError(f"saslauthd at {path}: {error}") from None
        asking.transport.write(question)
        timer = self._reactor.callLater(self._timeout, asking.give_up)
        try:
            answer = await asking.answer
        finally:
            if timer.active():
                timer.cancel()
            asking.transport.abortConnection()
        if not answer.startswith((b"OK", b"NO")):
            raise StoreError(f"saslauthd at {path}: strange answer {answer[:40]!r}")
        if not answer.startswith(b"OK"):
            _log.info("saslauthd refuses {user}: {answer}", user=user, answer=answer[:200])
        return answer.startswith(b"OK")


class _Question(Protocol):
    """Collects one counted string."""

    transport: Any

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= 2:
            (size,) = struct.unpack("!H", self._data[:2])
            if len(self._data) >= 2 + size and not self.answer.called:
                self.answer.callback(self._data[2 : 2 + size])

    def give_up(self) -> None:
        if not self.answer.called:
            self.answer.errback(StoreError("saslauthd does not answer"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(StoreError("saslauthd has hung up without an answer"))
