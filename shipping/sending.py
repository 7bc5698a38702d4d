"""Sending a file under TLS, which needs a reactor.

A call that has come to an understanding on TLS goes on as a `Talk`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from cyrus_sync.shipping.call import SILENCE, Call, Conversation
from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.greeting import Proofs
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.sealing import RECORD
from cyrus_sync.shipping.talk import Talk, adopt

Begin = Callable[[Talk], Coroutine[Any, Any, Proofs]]
"""Puts TLS on a connection; the proofs for what follows."""

Bring = Callable[[Conversation, Proofs, Callable[[int], None]], Coroutine[Any, Any, None]]
"""A conversation that brings a file: the connection, its proofs, and what sends the file itself,
from an offset on."""


def send_under_tls(call: Call, begin: Begin, bring: Bring, part: tuple[int, int]) -> None:
    """Have `bring` send the first octets of an open file: `part` is its descriptor and how many. Raises what
    `begin` and `bring` do."""

    async def work(reactor: Any) -> None:
        talk = Talk(reactor)
        adopt(reactor, call.detach(), talk)
        talk.be_patient(SILENCE)
        try:
            await bring(talk, await begin(talk), lambda start: send_part(talk, *part, start))
        finally:
            await talk.lose()

    wait_for(work)


def send_part(talk: Talk, descriptor: int, size: int, start: int = 0) -> None:
    """Send the first `size` octets of an open file from `start` on, as fast as the other side takes them. A
    file that has become shorter, or cannot be read, ends the conversation with that error."""
    producer = _Part(talk, descriptor, size, start)
    talk.transport.registerProducer(producer, True)
    producer.resumeProducing()


@implementer(IPushProducer)
class _Part:
    """What is left to be sent. (Twisted would have a producer that is asked for each piece driven by the one
    global reactor.)"""

    def __init__(self, talk: Talk, descriptor: int, size: int, start: int) -> None:
        self._talk = talk
        self._descriptor = descriptor
        self._size = size
        self._at = start
        self._paused = False

    def resumeProducing(self) -> None:
        self._paused = False
        self._talk.taken()
        while not self._paused:
            try:
                block = self._next()
            except (OSError, Refused) as error:
                self.stopProducing()
                self._talk.give_up(error)
                return
            if not block:
                self._talk.transport.unregisterProducer()
                return
            self._talk.say(block)

    def _next(self) -> bytes:
        """The next octets; b"" if there are no more."""
        block = os.pread(self._descriptor, min(RECORD, self._size - self._at), self._at)
        if not block and self._at < self._size:
            raise Refused("the data file has become shorter while it was sent")
        self._at += len(block)
        return block

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._size = self._at
