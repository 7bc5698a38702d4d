"""`Inbox`: what has been received and not been asked for yet, as it came or still compressed.

The rule it guards: a piece is inflated when somebody wants it, and not before.
"""

from __future__ import annotations

from collections import deque

from cyrus_sync.common.wire.deflate import Inflater

SLICE_BYTES = 256 * 1024
"""How much is inflated at once."""


class Inbox:
    """Bytes of the peer, in order."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._inflater: Inflater | None = None

    @property
    def pending(self) -> int:
        """Bytes held, as they came over the line."""
        return self._inflater.pending if self._inflater else self._bytes

    def put(self, data: bytes) -> None:
        """Add what was received."""
        if self._inflater:
            self._inflater.feed(data)
        else:
            self._pieces.append(data)
            self._bytes += len(data)

    def take(self) -> bytes:
        """The next piece of plain data, b"" if there is none. Raises `ProtocolViolation`."""
        if self._inflater:
            return self._inflater.take(SLICE_BYTES)
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        self._bytes -= len(piece)
        return piece

    def inflate(self, first: bytes) -> None:
        """What is here and what comes is DEFLATE from now on; `first` was received before it."""
        inflater = Inflater()
        inflater.feed(first)
        for piece in self._pieces:
            inflater.feed(piece)
        self.clear()
        self._inflater = inflater

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._bytes = 0
        self._inflater = None
