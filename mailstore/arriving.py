"""A message that comes through a pipe: kept in memory while it is small, in a file without a name if not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cyrus_sync.common.model import MAX_SIZE
from cyrus_sync.common.stores.frames import LARGE
from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.sources.content import PIECE, file_pieces


def arriving(stream: BinaryIO, directory: Path) -> Iterable[bytes]:
    """The message of `stream`, as pieces that may be read again; a large one is put into `directory`.

    Raises `BadInput` for what cannot be a message: an empty one, one with a NUL octet, one of more octets
    than a server can hold. Raises OSError where there is no room for it.
    """
    held: list[bytes] = []
    size = 0
    spool: BinaryIO | None = None
    for piece in file_pieces(stream):
        if b"\0" in piece:
            raise BadInput("the message has a NUL octet in it")
        size += len(piece)
        if size > MAX_SIZE:
            raise BadInput("the message has more than 4 GiB")
        if spool is None and size <= LARGE:
            held.append(piece)
            continue
        if spool is None:
            spool = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 # it lives as long as its pieces
            spool.writelines(held)
            held.clear()
        spool.write(piece)
    if not size:
        raise BadInput("the message is empty")
    if spool is None:
        return held
    spool.flush()
    return _Spooled(spool, size)


class _Spooled:
    """A file's pieces, read without moving its position."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        while position < self._size:
            piece = os.pread(self._file.fileno(), PIECE, position)
            if not piece:
                raise OSError("the message that was put aside is shorter than it was")
            position += len(piece)
            yield piece


def without_postmark(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A message without the line ``From sender date`` that some mail programs put in front."""
    remaining = iter(pieces)
    first = b""
    for piece in remaining:
        first += piece
        if len(first) >= len(b"From "):
            break
    if not first.startswith(b"From "):
        yield first
    else:
        while b"\n" not in first:
            piece = next(remaining, b"")
            if not piece:
                return
            first = piece
        yield first.partition(b"\n")[2]
    yield from remaining
