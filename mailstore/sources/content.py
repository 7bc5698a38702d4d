"""A message's octets on their way into a store: read in pieces, changed in pieces, never whole if large.

What comes from a file is read twice, once for its GUID and size and once to be stored; nothing is kept of
a message of more than `LARGE` bytes meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Literal, Protocol

from cyrus_sync.common.model import MAX_SIZE, MessageBody
from cyrus_sync.common.stores.frames import body_of

PIECE = 256 * 1024
"""How many octets of a file are read at once."""

_BARE_LF = re.compile(rb"(?<!\r)\n")


class Readable(Protocol):
    """A file that can be opened again and again: a path, or a `mailstore.sources.inside.Placed`."""

    def open(self, mode: Literal["rb"]) -> BinaryIO: ...

    def stat(self) -> os.stat_result: ...


class Span:
    """The octets of a file from `start` up to `end` (None = all that follow); may be iterated again."""

    def __init__(self, path: Readable, start: int = 0, end: int | None = None) -> None:
        self.path = path
        self.start = start
        self.end = end

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self.start)
            yield from file_pieces(file, None if self.end is None else self.end - self.start)


def file_pieces(file: BinaryIO, count: int | None = None) -> Iterator[bytes]:
    """The next `count` octets of an open file (None = all that follow)."""
    while count is None or count > 0:
        piece = file.read(PIECE if count is None else min(PIECE, count))
        if not piece:
            return
        if count is not None:
            count -= len(piece)
        yield piece


class Changed:
    """Pieces as `change` makes them of others; may be iterated as often as those."""

    def __init__(self, pieces: Iterable[bytes], change: Callable[[Iterable[bytes]], Iterator[bytes]]) -> None:
        self._pieces = pieces
        self._change = change

    def __iter__(self) -> Iterator[bytes]:
        return self._change(self._pieces)


def as_body(pieces: Iterable[bytes]) -> bytes | MessageBody:
    """The message that `pieces` make: its octets, or where they are many, what will read them again.

    Raises OSError for one that is larger than any server can hold.
    """
    body = body_of(pieces)
    if not isinstance(body, bytes) and body.size > MAX_SIZE:
        raise OSError(errno.EFBIG, "4 GiB or more, which no Cyrus can hold")
    return body


def to_crlf(raw: bytes) -> bytes:
    """`raw` with every bare LF as CRLF."""
    if b"\n" not in raw:
        return raw
    return _BARE_LF.sub(b"\r\n", raw) if b"\r" in raw else raw.replace(b"\n", b"\r\n")


def stored_form(raw: bytes) -> bytes:
    """What is kept of a file: one whose first line ends in CRLF is taken as it is."""
    end = raw.find(b"\n")
    return raw if end > 0 and raw[end - 1] == 0x0D else to_crlf(raw)


def crlf_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`to_crlf` of a message in pieces."""
    after_cr = False
    for piece in pieces:
        if after_cr and piece.startswith(b"\n"):
            yield b"\n" + to_crlf(piece[1:])
        elif piece:
            yield to_crlf(piece)
        after_cr = piece.endswith(b"\r") if piece else after_cr


def stored_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`stored_form` of a message in pieces."""
    remaining = iter(pieces)
    last = 0
    for piece in remaining:
        end = piece.find(b"\n")
        if end >= 0:
            before = piece[end - 1] if end else last
            rest = _chain(piece, remaining)
            if before == 0x0D:
                yield from rest
            else:
                yield from crlf_pieces(rest)
            return
        if piece:
            last = piece[-1]
            yield piece


def _chain(piece: bytes, remaining: Iterator[bytes]) -> Iterator[bytes]:
    yield piece
    yield from remaining
