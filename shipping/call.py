"""A conversation with another host, for code that waits for its end.

Whoever carries out an order does one thing after another. It waits at the socket itself, since loading a
reactor takes longer than sending a small file. A `Call` has the words of a `Talk`, so what is said
stands once, as coroutines on either (`Conversation`). On a call they never wait for anything else; `ended`
runs them.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol, Self, TypeVar

from cyrus_sync.common.commands import reason
from cyrus_sync.shipping.errors import Broken, Refused
from cyrus_sync.shipping.sealing import RECORD, Opener, Sealer

LONGEST_LINE = 1024
SILENCE = 120.0
"""Seconds without a sign of the other side after which a transfer is given up."""

_READ = 1 << 16
_WAIT = b"WAIT"

Result = TypeVar("Result")


class Conversation(Protocol):
    """What both ends of a greeting and a transfer need of a connection."""

    def line(self, longest: int = LONGEST_LINE) -> Awaitable[str]:
        """The next line, without its end. `Refused` if it is longer than `longest` octets, `Broken`."""

    def exactly(self, count: int) -> Awaitable[bytes]:
        """The next `count` octets. `Broken`."""

    def say(self, data: str | bytes) -> None:
        """Say a line (text, its end is added), or octets as they are."""

    def seal(self, sending: bytes, receiving: bytes) -> None:
        """What is said from now on is sealed with these keys."""


def ended(conversation: Coroutine[Any, Any, Result]) -> Result:
    """What a conversation on a `Call` comes to."""
    try:
        conversation.send(None)
    except StopIteration as end:
        found: Result = end.value
        return found
    conversation.close()
    raise AssertionError("a conversation on a call waits for something else")


class Call:
    """One side of a TCP connection. Use as a context manager. Whatever breaks it is `Broken`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = sock
        self._poll = select.poll()
        self._inbox = bytearray()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._silence: float | None = None
        self._deadline: float | None = None

    @classmethod
    def to(cls, address: tuple[str, int], seconds: float) -> Self:
        """A connection that is made within so many seconds. OSError."""
        return cls(socket.create_connection(address, timeout=seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The system goes on bringing over what was said."""
        self._socket.close()

    def be_patient(self, seconds: float) -> None:
        """Give up when nothing comes, and nothing is taken, for so long."""
        self._silence = seconds

    def until(self, seconds: float) -> None:
        """Give up after so long, whatever comes."""
        self._deadline = time.monotonic() + seconds

    # -- hearing

    async def line(self, longest: int = LONGEST_LINE) -> str:
        while (end := self._inbox.find(b"\n")) < 0 and len(self._inbox) <= longest:
            self._hear()
        if not 0 <= end <= longest:
            raise Refused("a line that is too long")
        found = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        return found.decode("utf-8", "replace")

    async def exactly(self, count: int) -> bytes:
        while len(self._inbox) < count:
            self._hear()
        found = bytes(self._inbox[:count])
        del self._inbox[:count]
        return found

    def _hear(self) -> None:
        """Wait for what comes next."""
        while True:
            try:
                come = self._socket.recv(_READ)
                break
            except BlockingIOError:
                self._wait(select.POLLIN)
            except OSError as error:
                raise Broken(reason(error)) from None
        if not come:
            raise Broken("the other side has closed the connection")
        for piece in self._opener.feed(come) if self._opener else (come,):
            self._inbox += piece

    def _wait(self, events: int) -> int:
        """Wait for one of `events`; those that have come."""
        limits = [self._silence] if self._silence is not None else []
        if self._deadline is not None:
            limits.append(self._deadline - time.monotonic())
        self._poll.register(self._socket, events)
        found = self._poll.poll(max(0.0, min(limits)) * 1000 if limits else None)
        if not found:
            raise Broken("timed out")
        return found[0][1]

    # -- saying

    def say(self, data: str | bytes) -> None:
        octets = data if isinstance(data, bytes) else data.encode("utf-8", "replace") + b"\n"
        self._give(self._sealer.records(octets) if self._sealer else [octets])

    def send_part(self, descriptor: int, size: int, start: int = 0) -> None:
        """Say the first `size` octets of an open file, from `start` on, or as many as the other side lets us
        say before it says something itself. OSError, `Refused` if the file has become shorter."""
        at = start
        while at < size and not self._interrupted():
            block = os.pread(descriptor, min(RECORD, size - at), at)
            if not block:
                raise Refused("the data file has become shorter while it was sent")
            at += len(block)
            self._give(self._sealer.records(block) if self._sealer else [block], listening=True)

    def _give(self, pieces: list[bytes], *, listening: bool = False) -> None:
        """Give `pieces` to the socket. `listening`: until the other side says something."""
        wanted = select.POLLOUT | select.POLLIN if listening else select.POLLOUT
        while pieces:
            try:
                taken = self._socket.sendmsg(pieces)
            except BlockingIOError:
                if self._wait(wanted) & select.POLLIN and listening and self._interrupted():
                    return
            except OSError as error:
                if listening and self._interrupted():
                    return
                raise Broken(reason(error)) from None
            else:
                pieces = _left_of(pieces, taken)

    def _interrupted(self) -> bool:
        """Whether the other side has said more than that it is still there."""
        self._poll.register(self._socket, select.POLLIN)
        while self._poll.poll(0):
            self._hear()
            while self._inbox.startswith(_WAIT) and b"\n" in self._inbox:
                del self._inbox[: self._inbox.index(b"\n") + 1]
            if b"\n" in self._inbox:
                return True
        return False

    # -- layers

    def seal(self, sending: bytes, receiving: bytes) -> None:
        self._no_more_in_clear()
        self._sealer, self._opener = Sealer(sending), Opener(receiving)

    def detach(self) -> int:
        """The descriptor of a connection that goes on as a `Talk`; the caller closes it."""
        self._no_more_in_clear()
        return self._socket.detach()

    def _no_more_in_clear(self) -> None:
        if self._inbox:
            raise Refused("something was said in clear that is to be said after the greeting")


def _left_of(pieces: list[bytes], taken: int) -> list[bytes]:
    """`pieces` without the first `taken` octets."""
    for number, piece in enumerate(pieces):
        if taken < len(piece):
            return [piece[taken:], *pieces[number + 1 :]]
        taken -= len(piece)
    return []
