"""Raw DEFLATE in both directions of a csync connection, as COMPRESS DEFLATE switches it on.

RFC 1951 without a zlib header (window bits -15). Every write ends with a sync flush, so that the peer
can read all of it at once; the streams are never finished. Inflating is the dangerous half: a stream
may grow a thousandfold, so `Inflater.take` never gives more than it is asked for, and what is not asked
for stays compressed.

>>> inflater = Inflater()
>>> inflater.feed(Deflater().compress(b"NOOP\\r\\n"))
>>> inflater.take(100)
b'NOOP\\r\\n'
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from importlib import import_module
from typing import Any

from cyrus_sync.common.errors import ProtocolViolation

WINDOW = -15

_implementation: Any
"""The same streams either way: ISA-L deflates mail three to seven times as fast as zlib's level 1, and
smaller, and inflates it in two thirds of the time."""

try:
    _implementation = import_module("isal.isal_zlib")
except ImportError:  # pragma: no cover (a machine for which it is not made)
    _implementation = zlib

LEVEL = 1 if _implementation is zlib else 2
"""What mail gains by higher levels is a tenth of its size, what it costs is a multiple of the time."""

_STORED = 65535
"""Bytes in the longest stored block (RFC 1951, 3.2.4)."""
_STORED_HEAD = struct.Struct("<BHH")

_ERRORS: tuple[type[Exception], ...] = (zlib.error, _implementation.error)


class Deflater:
    """Our half: what is given to `compress` can be inflated completely from what it returns."""

    def __init__(self, level: int = LEVEL) -> None:
        self._level = level
        self._stream: Any = None

    def compress(self, data: bytes) -> bytes:
        """`data` compressed, with a sync flush at the end. Large pieces compress best and fastest."""
        if self._stream is None:
            self._stream = _implementation.compressobj(self._level, zlib.DEFLATED, WINDOW, 9)
        return bytes(self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH))

    def store(self, data: bytes) -> bytes:
        """`data`, which is compressed already, as stored blocks: next to no work at either end.

        What the compressor has seen before lies further back now than it knows, so another begins.
        """
        self._stream = None
        parts: list[bytes] = []
        for at in range(0, len(data), _STORED):
            part = data[at : at + _STORED]
            parts += (_STORED_HEAD.pack(0, len(part), len(part) ^ _STORED), part)
        return b"".join(parts)


class Inflater:
    """The peer's half: compressed bytes in with `feed`, bounded slices out with `take`."""

    def __init__(self) -> None:
        self._stream = _implementation.decompressobj(WINDOW)
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._full = False

    @property
    def pending(self) -> int:
        """Compressed bytes that wait to be taken."""
        return self._bytes

    def feed(self, data: bytes) -> None:
        """Add what has come from the peer."""
        if data:
            self._waiting.append(data)
            self._bytes += len(data)

    def take(self, limit: int) -> bytes:
        """At most `limit` inflated bytes; b"" when more input is needed.

        Raises `ProtocolViolation` for what is not DEFLATE, or goes on after the end of the stream.
        """
        while self._waiting or self._full:
            piece = self._waiting.popleft() if self._waiting else b""
            try:
                out: bytes = self._stream.decompress(piece, limit)
            except _ERRORS as error:
                raise ProtocolViolation(f"compressed stream is damaged: {error}") from None
            left = self._stream.unconsumed_tail
            self._bytes -= len(piece) - len(left)
            if left:
                self._waiting.appendleft(left)
            if self._stream.unused_data:
                raise ProtocolViolation("compressed stream goes on after its end")
            # zlib may hold back output although all input is consumed, but only if the slice was full.
            self._full = len(out) == limit
            if out:
                return out
            if self._stream.eof and self._waiting:
                raise ProtocolViolation("compressed stream goes on after its end")
        return b""
