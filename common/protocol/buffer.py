"""The bytes that have come and are not yet consumed."""

from __future__ import annotations

import re

_COMPACT_AT = 64 * 1024
_SPACE = re.compile(rb"[ \t\r\v\f]*+")


class Buffer:
    """`data` from `pos` on is unread. Readers advance `pos`; `compact` forgets what lies before it."""

    __slots__ = ("data", "pos")

    def __init__(self) -> None:
        self.data = bytearray()
        self.pos = 0

    def __len__(self) -> int:
        return len(self.data) - self.pos

    def append(self, data: bytes) -> None:
        self.compact()
        self.data += data

    def compact(self) -> None:
        """Drop what was read, when that is worth it."""
        if self.pos == len(self.data) or self.pos >= _COMPACT_AT:
            del self.data[: self.pos]
            self.pos = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or what there is of them."""
        taken = bytes(memoryview(self.data)[self.pos : self.pos + count])
        self.pos += len(taken)
        return taken

    def drop(self, count: int) -> int:
        """Pass over up to `count` bytes; how many it were."""
        dropped = min(count, len(self))
        self.pos += dropped
        return dropped

    def skip_space(self) -> int:
        """Pass over the white space of a line; how many bytes are left behind it."""
        found = _SPACE.match(self.data, self.pos)
        assert found is not None
        self.pos = found.end()
        return len(self)

    def take_line(self, limit: int, searched: int = 0) -> bytes | None:
        """A line without its end (LF, a CR before it), None while it is unfinished.

        `searched` bytes are known to hold no LF. Raises ValueError when more than `limit` bytes have come
        without an end.
        """
        end = self.data.find(b"\n", self.pos + searched)
        if (len(self.data) if end < 0 else end) - self.pos > limit:
            raise ValueError("line too long")
        if end < 0:
            return None
        line = bytes(memoryview(self.data)[self.pos : end])
        self.pos = end + 1
        return line.removesuffix(b"\r")

    def clear(self) -> bytes:
        """All unread bytes; nothing is left."""
        rest = self.take(len(self))
        self.compact()
        return rest
