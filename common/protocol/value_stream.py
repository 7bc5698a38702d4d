"""One dlist value out of a connection's buffer, its bulk turned into events.

Messages come as `MessageData` (small ones, gathered) or `MessageStart` … `MessageEnd`, the records of a
MAILBOX as `RecordBatch`; what is left is `ValueStream.value`. Both ends of the protocol read with this.

A frame (our own extension, `Bulk.FRAMES`) is a file literal with a number before it: the size of the
message that it holds. ``(4096 %{default 26b0… 1833}⏎… 977 %{default …``

The rule guarded here: **a value that is refused is still read to its end**, content included, so that the
stream stays in step. The first thing wrong with it is kept in `refusal`; nothing is delivered after that.
As in Cyrus, a bad file literal makes the whole line unparsable (`dlist.ParseError`), a bad record does not.

And: **whatever may be content that is read as a value is `dlist.OutOfStep`**, found in the order of the
octets, however they come. That is a line end outside of content, and among messages a word with a brace and,
behind the first message, anything but another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, cast

from cyrus_sync.common.errors import BadParameters, ReplyError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.codec import decode_file_head
from cyrus_sync.common.protocol.events import (
    Event,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    RecordBatch,
)
from cyrus_sync.common.protocol.record_reader import RecordReader

SMALL_MESSAGE = 1024 * 1024
"""Up to this size a message is delivered whole."""
BATCH_BYTES = 1024 * 1024
BATCH_MESSAGES = 256
CHUNK = 256 * 1024

_HEAD = rb"%\{([0-9A-Za-z_-][0-9A-Za-z._-]{0,127}+) ([0-9A-Fa-f]{40}) ([0-9]{1,7})\}\r?\n"
_PLAIN_FILE = re.compile(rb" ?()" + _HEAD)
_PLAIN_FRAME = re.compile(rb" ?([1-9][0-9]{0,9}+) " + _HEAD)
_SIZE = re.compile(rb"[1-9][0-9]{0,9}")


class Bulk(Enum):
    """What of a value is streamed."""

    NONE = "none"
    MESSAGES = "messages"
    """File literals. Other items of the list are passed over, as Cyrus does."""
    FRAMES = "frames"
    """File literals that hold a zstd frame each, the message's size before each. Nothing else."""
    RECORDS = "records"
    """The list under RECORD of the outermost kvlist."""


_OF_FILES = (Bulk.MESSAGES, Bulk.FRAMES)


class ValueStream:
    """Reads a value; `read` gives an event, or None when it needs more bytes or is `done`.

    Raises `dlist.ParseError` where the value is no dlist; `in_doubt` then says whether it may hold content.
    It is not to be used after that. `read_past`: what is refused is read to its end, as a server does; a
    client breaks at once.
    """

    def __init__(self, buffer: Buffer, limits: dlist.Limits, bulk: Bulk, *, read_past: bool = True) -> None:
        self.value: Any = None
        self.done = False
        self.refusal: ReplyError | dlist.ParseError | None = None
        self._buffer = buffer
        self._limits = limits
        self._read_past = read_past
        self._parser = dlist.Parser(
            limits,
            dlist.Files.STREAM if bulk in _OF_FILES else dlist.Files.SKIP,
            b"RECORD" if bulk is Bulk.RECORDS else None,
            one_line=True,
        )
        self._plain = _PLAIN_FRAME if bulk is Bulk.FRAMES else _PLAIN_FILE
        self._encoding = "zstd" if bulk is Bulk.FRAMES else "identity"
        self._records: RecordReader | None = None
        self._messages: list[MessageBody] = []
        self._message_bytes = 0
        self._content = False
        self._announced: int | None = None
        """The size of the message in the next frame."""
        self._events = self._run(bulk)

    @property
    def in_doubt(self) -> bool:
        """Whether content may have been read: a file, a literal, or what may be left of the head of one."""
        records, parser = self._records, self._parser
        return (
            self._content
            or parser.content
            or parser.in_file_head
            or parser.braces
            or (records is not None and (records.content or records.in_doubt))
        )

    @property
    def octets(self) -> int:
        """How many were read of the value, without what was streamed."""
        return self._parser.used

    @property
    def items(self) -> int:
        """How many words, strings and lists it holds."""
        return self._parser.items

    def read(self) -> Event | None:
        return next(self._events, None)

    def _run(self, bulk: Bulk) -> Iterator[Event | None]:
        parser = self._parser
        while True:
            if bulk in _OF_FILES and parser.between_items and self._announced is None:
                yield from self._read_plain_files()
            self._feed(parser)
            if parser.status is dlist.Status.MORE:
                yield None
            elif parser.status is dlist.Status.ITEM:
                self._look_at_item(cast(list[Any], parser.value))
            elif parser.status is dlist.Status.STREAM:
                yield from self._read_records()
            elif parser.status is dlist.Status.FILE:
                yield from self._read_file()
            if parser.status is dlist.Status.DONE:
                break
        if bulk is Bulk.FRAMES and (parser.value != [] or self._announced is not None):
            self._refuse(dlist.ParseError("something else than frames"))
        yield from self._take_messages()
        self.value = parser.value
        self.done = True

    def _feed(self, parser: dlist.Parser) -> None:
        buffer = self._buffer
        try:
            buffer.pos = parser.feed(buffer.data, buffer.pos)
        except dlist.ParseError:
            self._stop_at(parser.position)
            raise

    def _stop_at(self, position: int) -> None:
        """Nothing can be read on behind `position`. Behind a line end within the value may be content, with a
        damaged head before it."""
        self._buffer.pos = position
        if self._buffer.data.startswith(b"\n", position):
            raise dlist.OutOfStep() from None

    def _look_at_item(self, items: list[Any]) -> None:
        """The newest item of a list of files is no file.

        A word with braces is what is left of a damaged file literal. Behind a file there are files, and NIL
        for one that could not be read; before a frame its size. Anything else is the rest of a file that is
        longer than it was announced. What follows is content then, and would be taken for words and, behind a
        parenthesis, for commands.
        """
        item = items[-1]
        is_size = self._encoding == "zstd" and type(item) is bytes and _SIZE.fullmatch(item) is not None
        strange = self._announced is not None or not (is_size or item is None)
        if dlist.has_braces(item) or (strange and self._content):
            raise dlist.OutOfStep()
        if is_size and not strange:
            self._announced = int(items.pop())

    def _refuse(self, error: ReplyError | dlist.ParseError) -> None:
        """Deliver nothing more of this value."""
        if not self._read_past:
            raise error
        if self.refusal is None:
            self.refusal = error
        self._messages.clear()

    # -- messages

    def _read_plain_files(self) -> Iterator[Event | None]:
        """All complete small messages with the usual head, without a step of the parser for each."""
        buffer = self._buffer
        while True:
            head = self._plain.match(buffer.data, buffer.pos)
            if head is None or self.refusal is not None:
                return
            octets, start = int(head[4]), head.end()
            if octets > SMALL_MESSAGE or len(buffer.data) < start + octets:
                return
            size = int(head[1] or octets)
            if size > dlist.MAX_FILE:
                return
            buffer.pos = start
            guid = bytes.fromhex(head[3].decode("ascii"))
            yield from self._add_message(head[2].decode("ascii"), guid, size, octets)

    def _add_message(self, partition: str, guid: bytes, size: int, octets: int) -> Iterator[Event]:
        content = self._buffer.take(octets)
        self._content = True
        self._messages.append(MessageBody(partition, guid, size, content, self._encoding))
        self._message_bytes += octets
        if self._message_bytes >= BATCH_BYTES or len(self._messages) >= BATCH_MESSAGES:
            yield from self._take_messages()

    def _take_messages(self) -> Iterator[Event]:
        if self._messages:
            taken, self._messages, self._message_bytes = tuple(self._messages), [], 0
            yield MessageData(taken)

    def _read_file(self) -> Iterator[Event | None]:
        """The file literal whose head has been read."""
        file = self._parser.file
        assert file is not None
        left = size = file.size
        try:
            partition, guid, _ = decode_file_head(file)
            if self._encoding == "zstd":
                size = self._announced_size()
        except ReplyError as error:
            self._refuse(dlist.ParseError(error.message))
        self._content = True
        if self.refusal is not None:
            while left := left - self._buffer.drop(left):
                yield None
        elif left <= SMALL_MESSAGE:
            while len(self._buffer) < left:
                yield None
            yield from self._add_message(partition, guid, size, left)
        else:
            yield from self._take_messages()
            yield MessageStart(partition, guid, size, self._encoding)
            while left:
                chunk = self._buffer.take(min(left, CHUNK))
                left -= len(chunk)
                yield MessageChunk(chunk) if chunk else None
            yield MessageEnd()
        self._parser.file_taken()

    def _announced_size(self) -> int:
        """The number before a frame. Raises `BadParameters`."""
        size, self._announced = self._announced, None
        if size is None or size > dlist.MAX_FILE:
            raise BadParameters("a frame without the size of its message")
        return size

    # -- records

    def _read_records(self) -> Iterator[Event | None]:
        reader = self._records = RecordReader(self._limits)
        while not reader.done:
            reader.discard = self.refusal is not None
            try:
                reader.feed(self._buffer)
            except ReplyError as error:
                self._refuse(error)
                reader.take()
                continue
            except dlist.ParseError:
                if reader.parser is not None:
                    self._stop_at(reader.parser.position)
                raise
            if reader.done or reader.full:
                records = reader.take()
                if records:
                    yield RecordBatch(records)
            else:
                yield None
        self._content = self._content or reader.content
        self._records = None
