"""Sending a part of a file in a conversation, as fast as the other side takes it.

What is sealed goes from here to the socket: Twisted would put every record into one buffer more. Twisted has
what the socket does not take at once, and asks for more when that has gone.
"""

from __future__ import annotations

import contextlib
import os

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.sealing import RECORD, Sealer
from cyrus_sync.shipping.talk import Talk

_AT_ONCE = 16
"""Records after which the reactor has its turn: the other side may have said something."""


def send_part(talk: Talk, descriptor: int, size: int) -> None:
    """Send the first `size` octets of an open file. A file that has become shorter, or cannot be read, ends
    the conversation with that error."""
    part = _Part(talk, descriptor, size)
    if talk.sealer is None:
        producer = _Said(talk, part)
        talk.transport.registerProducer(producer, True)
        producer.resumeProducing()
    else:
        talk.transport.registerProducer(_Sealed(talk, part, talk.sealer), False)


class _Part:
    """What is left to be sent."""

    def __init__(self, talk: Talk, descriptor: int, size: int) -> None:
        self._talk = talk
        self._descriptor = descriptor
        self._size = size
        self._at = 0

    def block(self) -> bytes | None:
        """The next octets; b"" if there are no more, None if the conversation has ended for that."""
        try:
            block = os.pread(self._descriptor, min(RECORD, self._size - self._at), self._at)
            if not block and self._at < self._size:
                raise Refused("the data file has become shorter while it was sent")
        except (OSError, Refused) as error:
            self.stop()
            self._talk.give_up(error)
            return None
        self._at += len(block)
        return block

    def stop(self) -> None:
        self._size = self._at


@implementer(IPullProducer)
class _Sealed:
    """Sends it sealed. Is asked when everything that was said before has gone."""

    def __init__(self, talk: Talk, part: _Part, sealer: Sealer) -> None:
        self._talk = talk
        self._part = part
        self._sealer = sealer
        self._begun = False

    def resumeProducing(self) -> None:
        talk, part = self._talk, self._part
        talk.taken()
        # The first time something that was said may be on its way still.
        at_once, self._begun = _AT_ONCE if self._begun else 0, True
        while (block := part.block()) and at_once:
            if left := _left_of(talk, self._sealer.records(block)):
                talk.transport.writeSequence(left)
                return
            at_once -= 1
        if block:
            talk.say(block)
        elif block is not None:
            talk.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._part.stop()


def _left_of(talk: Talk, pieces: list[bytes]) -> list[bytes]:
    """Give `pieces` to the socket; what it has not taken."""
    sent = 0
    with contextlib.suppress(OSError):  # Twisted comes to the same error, and ends the connection for it
        sent = talk.transport.getHandle().sendmsg(pieces)
    left: list[bytes] = []
    for piece in pieces:
        if sent < len(piece):
            left.append(piece[sent:])
        sent = max(0, sent - len(piece))
    return left


@implementer(IPushProducer)
class _Said:
    """Says it, whatever is below. (Under TLS Twisted would have a producer that is asked for each piece
    driven by the one global reactor.)"""

    def __init__(self, talk: Talk, part: _Part) -> None:
        self._talk = talk
        self._part = part
        self._paused = False

    def resumeProducing(self) -> None:
        self._paused = False
        self._talk.taken()
        while not self._paused:
            if block := self._part.block():
                self._talk.say(block)
                continue
            if block is not None:
                self._talk.transport.unregisterProducer()
            return

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._part.stop()
