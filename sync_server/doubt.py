"""Whether what a client has sent can still be told apart: messages that are not what their GUID says.

Where a message is longer than it was announced, its rest is read as what follows. The grammar notices most
rests (`common.protocol.value_stream`), but not one that looks like the end of the command and another one
(``)⏎APPLY UNUSER alice⏎``). Then the GUID is what tells: it is the digest of the whole message. Such a
command is answered as ever, for a message may just be damaged; what follows it ends the connection, unread.
Neither a real sync_client nor ours sends a message that it knows to be damaged.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol.events import (
    ConnectionClosed,
    DlistCommand,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    Refused,
    SessionCommand,
)

_COMMANDS = (DlistCommand, SessionCommand, Refused)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)
_RLE = 1


class Doubt:
    """Looks at the events of one connection, in order."""

    def __init__(self) -> None:
        self._here = False
        """In the command that is being read."""
        self._before = False
        """In one that is complete."""
        self._digest: Any = None
        self._guid = b""

    def forbids(self, event: Any) -> bool:
        """True where `event` may be the inside of a message."""
        if self._before and not isinstance(event, ConnectionClosed):
            return True
        if isinstance(event, _COMMANDS):
            self._before = self._here
        elif isinstance(event, MessageData):
            self._here = self._here or not all(map(_is_whole, event.messages))
        elif isinstance(event, MessageStart):
            self._guid = event.guid
            self._digest = hashlib.sha1() if event.encoding == "identity" else None
        elif self._digest is not None:
            if isinstance(event, MessageChunk):
                self._digest.update(event.data)
            elif isinstance(event, MessageEnd):
                self._here = self._here or self._digest.digest() != self._guid
                self._digest = None
        return False


def _is_whole(body: MessageBody) -> bool:
    data = body.data
    if not isinstance(data, bytes):
        return True
    if body.encoding == "zstd":
        return not frame_is_cut(data)
    return hashlib.sha1(data).digest() == body.guid


def frame_is_cut(data: bytes) -> bool:
    """Whether `data` is the beginning of a zstd frame whose end is elsewhere (RFC 8878, 3.1.1). Its blocks
    are not unpacked. Behind less than a header nothing that can be read as text follows."""
    if len(data) < 5 or data[:4] != _ZSTD_MAGIC:
        return False
    flags = data[4]
    single = flags >> 5 & 1
    position = 5 + (not single) + _DICTIONARY[flags & 3] + (_CONTENT_SIZE[flags >> 6] or single)
    last = 0
    while not last:
        head = int.from_bytes(data[position : position + 3], "little")
        if position + 3 > len(data):
            return True
        last, kind = head & 1, head >> 1 & 3
        position += 3 + (1 if kind == _RLE else head >> 3)
    return position + 4 * (flags >> 2 & 1) > len(data)
