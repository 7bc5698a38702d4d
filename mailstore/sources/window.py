"""A large file looked at through a window of a few blocks: searching in it without holding it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

BLOCK = 1024 * 1024
"""Octets that are held."""

_NOT_BLANK = re.compile(rb"[^\r\n]")


class Window:
    """Reads `file` at any place; what lies near the last place is at hand."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        """`end`: how long the file is, in octets; what is appended meanwhile is not looked at."""
        self._file = file
        self.end = end
        self._start = 0
        self._held = b""

    def take(self, start: int, count: int) -> bytes:
        """Up to `count` octets (no more than a block) from `start` on; fewer at the end."""
        count = max(min(count, self.end - start), 0)
        offset = start - self._start
        if offset < 0 or offset + count > len(self._held):
            self._file.seek(start)
            self._held = self._file.read(min(BLOCK, self.end - start))
            self._start, offset = start, 0
        return self._held[offset : offset + count]

    def find(self, wanted: bytes, start: int) -> int:
        """Where `wanted` next stands, -1 if nowhere."""
        return self._search(start, len(wanted) - 1, lambda data, at: data.find(wanted, at))

    def next_line_with_text(self, start: int) -> int:
        """Where the next octet is that is no line end; the end if there is none."""

        def text(data: bytes, at: int) -> int:
            found = _NOT_BLANK.search(data, at)
            return found.start() if found else -1

        found = self._search(start, 0, text)
        return self.end if found < 0 else found

    def line(self, start: int, longest: int) -> bytes:
        """The line that begins at `start`, with its end; no more than `longest` octets of it."""
        data = self.take(start, longest)
        return data[: data.find(b"\n") + 1] or data

    def _search(self, start: int, overlap: int, search: Callable[[bytes, int], int]) -> int:
        while start < self.end:
            if not self._start <= start < self._start + len(self._held) - overlap:
                self.take(start, BLOCK)
                if not self._held:
                    return -1
            found = search(self._held, start - self._start)
            if found >= 0:
                return self._start + found
            after = self._start + len(self._held)
            if after >= self.end:
                return -1
            start = after - overlap
        return -1
