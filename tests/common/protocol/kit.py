"""What the tests of connections share: draining events, and undoing DEFLATE where it was agreed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

from cyrus_sync.common.protocol.connection import ClientConnection, ServerConnection
from cyrus_sync.common.protocol.events import (
    ConnectionClosed,
    Event,
    Fatal,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    NeedData,
    RecordBatch,
    Refused,
)

BULK = (MessageData, MessageStart, MessageChunk, MessageEnd, RecordBatch)


def server(authenticated: bool = True, **options: Any) -> ServerConnection:
    connection = ServerConnection(**options)
    connection.authenticated = authenticated
    return connection


def events(
    connection: ServerConnection | ClientConnection,
    pieces: Iterable[bytes],
    react: Callable[[Event], None] = lambda event: None,
) -> list[Event]:
    """All events, in order, of a stream given in pieces. `react` is what a session would do."""
    found: list[Event] = []
    for piece in pieces:
        connection.receive_data(piece)
        while not isinstance(event := connection.next_event(), NeedData | ConnectionClosed):
            found.append(event)
            react(event)
    return found


def merged(found: list[Event]) -> list[Event]:
    """`found` with bulk in a form that does not depend on the pieces in which it came: messages and records
    one by one, chunks together; and without what a refusal makes void."""
    out: list[Event] = []
    for event in found:
        if isinstance(event, Refused | Fatal):
            while out and isinstance(out[-1], BULK):
                out.pop()
            out.append(event)
        elif isinstance(event, MessageData):
            out += [MessageData((message,)) for message in event.messages]
        elif isinstance(event, RecordBatch):
            out += [RecordBatch((record,)) for record in event.records]
        elif isinstance(event, MessageChunk) and isinstance(out[-1], MessageChunk):
            out[-1] = MessageChunk(out[-1].data + event.data)
        else:
            out.append(event)
    return out


def inflate(data: bytes, marker: bytes) -> bytes:
    """A recorded direction with DEFLATE undone behind `marker`."""
    before, found, after = data.partition(marker)
    return before + found + zlib.decompressobj(-15).decompress(after) if found else data
