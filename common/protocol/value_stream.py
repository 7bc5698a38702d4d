"""One dlist value out of a connection's buffer, its bulk turned into events.

Messages come as `MessageData` (small ones, gathered) or `MessageStart` … `MessageEnd`, the records of a
MAILBOX as `RecordBatch`; what is left is `ValueStream.value`. Both ends of the protocol read with this.

A frame (our own extension, `Bulk.FRAMES`) is a file literal with a number before it: the size of the
message that it holds. ``(4096 %{default 26b0… 1833}⏎… 977 %{default …``

The rule guarded here: **a value that is refused is still read to its end**, content included, so that the
stream stays in step. The first thing wrong with it is kept in `refusal`; nothing is delivered after that.
As in Cyrus, a bad file literal makes the whole line unparsable (`dlist.ParseError`), a bad record does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

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

    Raises `dlist.ParseError` where the rest of the line is to be skipped; `file_parts` then says whether
    that was in the head of a file literal. It is not to be used after that.
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
        )
        self._plain = _PLAIN_FRAME if bulk is Bulk.FRAMES else _PLAIN_FILE
        self._encoding = "zstd" if bulk is Bulk.FRAMES else "identity"
        self._records: RecordReader | None = None
        self._messages: list[MessageBody] = []
        self._message_bytes = 0
        self._looked_at = 0
        self._content = False
        self._harmless = 0
        """Items of a list of files that stood before its first file."""
        self._events = self._run(bulk)

    @property
    def file_parts(self) -> int | None:
        """How many parts of a file literal's head were read when reading stopped in one, else None."""
        parser = self._parser if self._records is None else self._records.parser
        return parser.file_parts if parser is not None else None

    @property
    def content(self) -> bool:
        """Whether octets that may be anything have been read: of a file, or a literal."""
        records = self._records is not None and self._records.content
        return self._content or self._parser.content or records

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
            if bulk in _OF_FILES and parser.between_items:
                yield from self._read_plain_files()
            self._feed(parser)
            if bulk in _OF_FILES:
                self._look_for_spilt_heads(parser.value)
                self._look_for_spilt_content(parser.value)
            if parser.status is dlist.Status.MORE:
                yield None
            elif parser.status is dlist.Status.STREAM:
                yield from self._read_records()
            elif parser.status is dlist.Status.FILE:
                yield from self._read_file()
            if parser.status is dlist.Status.DONE:
                break
        if bulk is Bulk.FRAMES and parser.value != []:
            self._refuse(dlist.ParseError("something else than frames"))
        yield from self._take_messages()
        self.value = parser.value
        self.done = True

    def _feed(self, parser: dlist.Parser) -> None:
        buffer = self._buffer
        try:
            buffer.pos = parser.feed(buffer.data, buffer.pos)
        except dlist.ParseError:
            buffer.pos = parser.position
            raise

    def _look_for_spilt_heads(self, items: Any) -> None:
        """A word with braces where files belong is what is left of a damaged file literal: what follows
        is content, and would be taken for words and, after a parenthesis, for commands."""
        if type(items) is list:
            for item in items[self._looked_at :]:
                if type(item) is bytes and (b"{" in item or b"}" in item):
                    raise dlist.OutOfStep()
            self._looked_at = len(items)

    def _look_for_spilt_content(self, items: Any) -> None:
        """Behind a file there are files, and NIL for one that could not be read; before a frame its size.
        Anything else is the rest of a file that is longer than it was announced: who reads on takes what it
        says for commands."""
        if not self._content or type(items) is not list:
            return
        sizes = [item for item in items[self._harmless :] if item is not None]
        frames = self._encoding == "zstd"
        if len(sizes) > frames or any(type(item) is not bytes or not _SIZE.fullmatch(item) for item in sizes):
            raise dlist.OutOfStep()

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
        self._file_read()
        self._messages.append(MessageBody(partition, guid, size, content, self._encoding))
        self._message_bytes += octets
        if self._message_bytes >= BATCH_BYTES or len(self._messages) >= BATCH_MESSAGES:
            yield from self._take_messages()

    def _file_read(self) -> None:
        if not self._content:
            self._content = True
            items = self._parser.value
            self._harmless = len(items) if type(items) is list else 0

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
        self._file_read()
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
        """The number before a frame, which is taken out of the list. Raises `BadParameters`."""
        items = self._parser.value
        item = items.pop() if type(items) is list and items else None
        if items == []:
            self._looked_at = 0
        if type(item) is not bytes or not _SIZE.fullmatch(item) or int(item) > dlist.MAX_FILE:
            raise BadParameters("a frame without the size of its message")
        return int(item)

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
                    self._buffer.pos = reader.parser.position
                raise
            if reader.done or reader.full:
                records = reader.take()
                if records:
                    yield RecordBatch(records)
            else:
                yield None
        self._content = self._content or reader.content
        self._records = None
