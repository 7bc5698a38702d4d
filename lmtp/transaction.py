"""`Transaction`: one message, from MAIL until each of its recipients is answered.

It comes as lines (DATA), or in parts that have lengths (BDAT, RFC 3030)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from cyrus_sync.lmtp.answers import BAD_HEADER, Answer
from cyrus_sync.lmtp.arriving import Arriving
from cyrus_sync.lmtp.commands import Mail, Rcpt
from cyrus_sync.lmtp.header import Envelope
from cyrus_sync.lmtp.octets import LineEnds
from cyrus_sync.lmtp.placing import Posting
from cyrus_sync.lmtp.service import Service

log = logging.getLogger("lmtp")


class Transaction:
    """`add` the recipients, `begin`, then `take` or `take_part` what comes of the message, then give the
    `answers`. `close` in any case."""

    def __init__(self, service: Service, mail: Mail) -> None:
        self.mail = mail
        self.recipients: list[str] = []
        """Addresses of those who are accepted."""
        self._service = service
        self._postings: list[Posting] = []
        self._envelope: Envelope | None = None
        self._arriving: Arriving | None = None
        self._begun = 0.0
        self._ends: LineEnds | None = None
        self._received = 0

    def add(self, rcpt: Rcpt, posting: Posting) -> None:
        """A recipient who is accepted."""
        self.recipients.append(rcpt.address)
        self._postings.append(posting)

    @property
    def begun(self) -> bool:
        """Whether anything of the message was announced."""
        return self._arriving is not None

    @property
    def in_parts(self) -> bool:
        """Whether it comes by BDAT."""
        return self._ends is not None

    @property
    def problem(self) -> Answer | None:
        """Why the message is not taken, as far as that is known."""
        return self._arriving.problem if self._arriving is not None else None

    def begin(self, envelope: Envelope, *, in_parts: bool = False) -> None:
        """The message comes now."""
        self._envelope = envelope
        self._arriving = self._service.arriving(envelope)
        self._begun = self._service.reactor.seconds()
        self._ends = LineEnds() if in_parts else None

    async def take(self, piece: bytes, received: int) -> None:
        """What comes of it, with the ends of lines that a store keeps, out of so many octets so far."""
        assert self._arriving is not None
        self._received = received
        await self._arriving.add(piece, received)

    async def take_part(self, raw: bytes) -> None:
        """What comes of it as it was sent."""
        assert self._ends is not None
        await self.take(self._ends.add(raw), self._received + len(raw))

    async def answers(self, success: Answer) -> AsyncIterator[Answer]:
        """The message is whole: deliver it. The answer of each recipient in their order, as soon as it is
        true; `success` is a good one."""
        service, arriving, envelope = self._service, self._arriving, self._envelope
        assert arriving is not None and envelope is not None
        if self._ends is not None:
            await arriving.add(self._ends.end(), self._received)
        message = await arriving.finish(len(self._postings))
        service.measures.arrived(arriving.size)
        refused = arriving.problem or BAD_HEADER
        if message is not None:
            refused = await service.journalled(message, envelope, success)
        if message is None or not refused.good:
            for answer in self.refusals(refused):
                yield answer
        else:
            for one in [service.deliver(message, posting, success) for posting in self._postings]:
                yield self._counted(await one)
        service.measures.took.observe(service.reactor.seconds() - self._begun)

    def refusals(self, problem: Answer) -> list[Answer]:
        """What all recipients are answered, where the message is not taken."""
        session = self._envelope.session if self._envelope is not None else ""
        log.info("refused: message from <%s>: %s [session=%s]", self.mail.sender, problem.text, session)
        return [self._counted(problem) for _ in self._postings]

    def close(self) -> None:
        """What is kept of it is given back."""
        if self._arriving is not None:
            self._arriving.close()

    def _counted(self, answer: Answer) -> Answer:
        self._service.measures.answered[answer.result] += 1
        return answer
