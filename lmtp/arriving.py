"""`Arriving`: one message on its way in, from DATA to its end. A small one stays in memory, a large one goes
into a file without a name, by a thread."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.nameless import NamelessFile
from cyrus_sync.common.stores.frames import LARGE, make_frame
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.lmtp import header
from cyrus_sync.lmtp.answers import BAD_HEADER, HAS_NUL, Answer, Refused, too_large
from cyrus_sync.lmtp.header import Envelope, Header, Rules
from cyrus_sync.lmtp.octets import PIECE


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is whole. `pieces` are its octets, `body` is what a store takes of them."""

    body: bytes | MessageBody
    pieces: Iterable[bytes]
    size: int
    message_id: str
    date: str


class Arriving:
    """`add` each piece, then `finish`; `close` gives the disk its space back in any case."""

    def __init__(
        self, envelope: Envelope, rules: Rules, most: int, threads: ThreadRunner, scratch: Path
    ) -> None:
        """`most`: octets that a message may have; `scratch`: where large ones are put."""
        self._envelope = envelope
        self._rules = rules
        self._most = most
        self._threads = threads
        self._scratch = scratch
        self._start = bytearray()
        """What has come of the header, until it is whole."""
        self._header: Header | None = None
        self._held: list[bytes | bytearray] = []
        """What is small is put together, however little comes at a time."""
        self._held_octets = 0
        self._file: NamelessFile | None = None
        self._digest = hashlib.sha1()
        self._received = 0
        self.size = 0
        self.problem: Answer | None = None
        """Why it is not taken: what still comes of it is not kept."""

    async def add(self, piece: bytes, received: int) -> None:
        """The next piece. `received`: the octets of the message so far, for more may have come than is kept.
        A full disk is the message's problem, no error."""
        self._received = received
        if b"\0" in piece:
            self._refuse(HAS_NUL)
        if self.problem is not None:
            self.size += len(piece)
            return
        if self._header is not None:
            await self._keep(piece)
            return
        looked = len(self._start)
        self._start += piece
        end = header.end_of_header(self._start, looked)
        if end >= 0:
            await self._begin_body(end)
        elif len(self._start) > header.MOST:
            self._refuse(BAD_HEADER)

    async def finish(self, recipients: int) -> Message | None:
        """The message, None where there is a `problem`. What is stored for several is compressed here, once
        for all."""
        if self._header is None and self.problem is None:
            await self._begin_body(len(self._start))
        if self._is_too_large:
            self._refuse(too_large(max(self.size, self._received), self._most))
        if self.problem is not None or self._header is None:
            return None
        if self._file is not None:
            await self._spill()
        if self.problem is not None:
            return None
        body: bytes | MessageBody
        pieces: Iterable[bytes]
        if self._file is not None:
            pieces = self._file
            body = MessageBody("", self._digest.digest(), self.size, self._file)
        else:
            whole = b"".join(self._held)
            body, pieces = whole, (whole,)
            if recipients > 1:
                frame = await self._threads.run(make_frame, whole)
                body = MessageBody("", frame.digest, frame.size, frame.frame, "zstd")
        return Message(body, pieces, self.size, self._header.message_id, self._header.date)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._held.clear()

    async def _begin_body(self, end: int) -> None:
        raw, body, self._start = bytes(self._start[:end]), bytes(self._start[end:]), bytearray()
        try:
            self._header = header.arranged(raw, self._envelope, self._rules, time.time())
        except Refused as error:
            self._refuse(error.answer)
            return
        await self._keep(self._header.octets)
        await self._keep(body)

    async def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._is_too_large:
            self._drop()
            return
        last = self._held[-1] if self._held else b""
        if isinstance(last, bytearray) and len(last) + len(piece) <= PIECE:
            last += piece
        else:
            self._held.append(piece if len(piece) >= PIECE else bytearray(piece))
        self._held_octets += len(piece)
        if self._held_octets > LARGE:
            await self._spill()

    @property
    def _is_too_large(self) -> bool:
        return max(self.size, self._received) > self._most

    async def _spill(self) -> None:
        held, self._held, self._held_octets = self._held, [], 0
        try:
            await self._threads.run(self._write, held)
        except OSError as error:
            self._refuse(Answer(451, "4.3.1", f"cannot keep the message: {error.strerror}"))

    def _write(self, pieces: list[bytes | bytearray]) -> None:
        """In a thread."""
        if self._file is None:
            self._file = NamelessFile(self._scratch)
        for piece in pieces:
            self._digest.update(piece)
            self._file.write(piece)

    def _refuse(self, answer: Answer) -> None:
        if self.problem is None:
            self.problem = answer
        self._drop()

    def _drop(self) -> None:
        self._start = bytearray()
        self.close()
        self._held_octets = 0
