"""What a client sends for verbs with bulk: lines and streams in pieces of bounded size.

A *piece* is ``(bytes, commands, packed)``: the number of commands whose first byte it holds, each of which
will be answered. The generators here block where their sources do: they are stepped in a thread.

The rule guarded here: **a source that fails leaves the stream in step.** What was begun is ended, in a form
that the replica refuses or cannot use, and then the source's error is raised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from cyrus_sync.common.model import MailboxUpdate, MessageBody, MessageSource
from cyrus_sync.common.protocol import codec, dlist
from cyrus_sync.common.protocol.commands import COMMANDS

FILES_IN_A_COMMAND = 1024
BYTES_IN_A_COMMAND = 32 * 1024 * 1024
PIECE_BYTES = 512 * 1024
GUIDS_IN_A_COMMAND = 8192
UIDS_IN_A_COMMAND = 50_000

_UNPARSABLE = b'"\r\n'
"""A quoted string without an end, then the end of the line: no server takes that for a list of records."""


_COMMANDS = {"identity": b"APPLY MESSAGE (", "zstd": b"APPLY XFRAME ("}
"""How a list of messages in each encoding begins."""


class Piece(NamedTuple):
    data: bytes
    commands: int
    packed: bool = False
    """Most of it is compressed already."""


def mailbox_pieces(update: MailboxUpdate, local: bool) -> Iterator[Piece]:
    """APPLY MAILBOX with its records."""
    state = update.state
    command = COMMANDS["APPLY", "MAILBOX"]
    if state.intermediate or state.tombstone:
        short = dlist.encode(codec.encode_intermediate(state), server=False)
        yield Piece(command.head(local) + short + b"\r\n", 1)
        return
    value = codec.encode_mailbox(state, since=update.since, partial=update.partial)
    head = command.head(local) + codec.mailbox_head(value, server=False)
    batches = iter(update.records)
    first = next(batches, ())  # an error here has sent nothing
    yield Piece(head + codec.encode_records(first, server=False), 1)
    separator = b" " if first else b""
    try:
        for batch in batches:
            if batch:
                yield Piece(separator + codec.encode_records(batch, server=False), 0)
                separator = b" "
    except GeneratorExit:
        raise
    except BaseException:
        yield Piece(_UNPARSABLE, 0)
        raise
    yield Piece(codec.MAILBOX_TAIL + b"\r\n", 0)


def message_pieces(
    messages: MessageSource, encodings: Collection[str] = frozenset({"identity"})
) -> Iterator[Piece]:
    """APPLY MESSAGE, or APPLY XFRAME for frames, as many of them as are needed. `encodings`: what the
    replica takes."""
    writer = _MessageWriter(encodings)
    try:
        for batch in messages:
            for body in batch:
                yield from writer.add(body)
            if writer.size >= PIECE_BYTES:
                yield writer.take()
    except GeneratorExit:
        raise
    except BaseException:
        yield writer.close()
        raise
    yield writer.close()


class _MessageWriter:
    def __init__(self, encodings: Collection[str]) -> None:
        self.size = 0
        self._encodings = encodings
        self._out: list[bytes] = []
        self._begun = 0
        self._files = 0
        self._bytes = 0
        self._encoding = ""

    def add(self, body: MessageBody) -> Iterator[Piece]:
        if body.encoding not in self._encodings:
            raise ValueError(f"a message in the encoding {body.encoding} cannot go over the wire")
        octets = body.octets
        if (
            self._files >= FILES_IN_A_COMMAND
            or self._bytes >= BYTES_IN_A_COMMAND
            or body.encoding != self._encoding
        ):
            self._end_command()
        if not self._files:
            self._begun += 1
            self._encoding = body.encoding
        self._put(b" " if self._files else _COMMANDS[body.encoding])
        self._files += 1
        self._bytes += octets
        if body.encoding == "zstd":
            self._put(b"%d " % body.size)
        self._put(
            dlist.file_head(body.partition.encode(), body.guid.hex().encode("ascii"), octets, server=False)
        )
        if isinstance(body.data, bytes):
            yield from self._content(body, (body.data,))
        else:
            yield from self._content(body, body.data)

    def _content(self, body: MessageBody, pieces: Iterable[bytes]) -> Iterator[Piece]:
        """Exactly as many octets as were announced, whatever `pieces` give."""
        octets = left = body.octets
        try:
            for data in pieces:
                if len(data) > left:
                    raise ValueError(f"message {body.guid.hex()} is longer than its size of {octets} octets")
                left -= len(data)
                self._put(data)
                if self.size >= PIECE_BYTES:
                    yield self.take()
            if left:
                raise ValueError(f"message {body.guid.hex()} is shorter than its size of {octets} octets")
        except GeneratorExit:
            raise
        except BaseException:
            while left:  # zeros have another SHA-1: the replica will not use this file
                fill = min(left, PIECE_BYTES)
                left -= fill
                self._put(bytes(fill))
                yield self.take()
            raise

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self.size += len(data)

    def _end_command(self) -> None:
        if self._files:
            self._put(b")\r\n")
            self._files = self._bytes = 0

    def take(self) -> Piece:
        """What there is to send."""
        piece = Piece(b"".join(self._out), self._begun, packed=self._encoding == "zstd")
        self._out.clear()
        self.size = self._begun = 0
        return piece

    def close(self) -> Piece:
        self._end_command()
        return self.take()
