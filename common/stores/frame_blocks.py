"""Walking through one zstd frame, block by block (RFC 8878 section 3.1.1).

A decoder that is handed a whole piece of a frame gives back all that the piece decompresses to. 4 bytes of it
can stand for 128 KiB, so a piece of 256 KiB may become 8 GiB. A decoder that is handed one block at a time
cannot give more than `MAX_BLOCK`; and the walk knows where the frame must end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import zstandard

from cyrus_sync.common.errors import StoreCorrupt

MAX_BLOCK = 128 * 1024
"""No block holds more than this of a message."""
MAX_WINDOW = 8 * 1024 * 1024
"""No frame may ask a decoder to remember more; RFC 8878 recommends as much. Ours ask for 512 KiB."""

_MAGIC = zstandard.FRAME_HEADER
_HEADER = 18
"""No frame header is longer."""
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4


def check_head(frame: bytes, size: int) -> None:
    """Raise `StoreCorrupt` unless `frame` begins as our frames do: with `size` as the message's size, a
    checksum announced, no dictionary, and a window that is not too large."""
    try:
        head = zstandard.get_frame_parameters(frame[:_HEADER])
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error
    if frame[:4] != _MAGIC or head.dict_id or not head.has_checksum:
        raise StoreCorrupt("not the kind of frame that is kept")
    if head.content_size != size:
        raise StoreCorrupt("frame holds a message of another size")
    if head.window_size > MAX_WINDOW:
        raise StoreCorrupt("frame needs too much memory")


def is_one_block(frame: bytes) -> bool:
    """Whether `frame` is a head, one block, a checksum, and nothing else, as frames of small messages are.
    What the head and the block say is not looked at."""
    begin = zstandard.frame_header_size(frame)
    number = int.from_bytes(frame[begin : begin + 3], "little")
    last, kind, length = bool(number & 1), number >> 1 & 3, number >> 3
    return last and kind not in (_RLE, _RESERVED) and len(frame) == begin + 3 + length + 4


class _Octets:
    """The frame's pieces, to be taken in other portions."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self._pos = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises `StoreCorrupt` where there are fewer."""
        end = self._pos + count
        if end > len(self._held):
            self._more(count)
            end = count
        taken = self._held[self._pos : end]
        self._pos = end
        return taken

    def _more(self, count: int) -> None:
        held = [self._held[self._pos :]]
        missing = count - len(held[0])
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                raise StoreCorrupt("frame ends too early")
            held.append(piece)
            missing -= len(piece)
        self._held, self._pos = b"".join(held), 0

    @property
    def used_up(self) -> bool:
        return self._pos == len(self._held) and not any(self._pieces)


def blocks(frame: Iterable[bytes]) -> Iterator[bytes]:
    """The header of a frame, its blocks one by one, its checksum.

    Raises `StoreCorrupt` where it ends too early or anything stands behind it.
    """
    octets = _Octets(frame)
    start = octets.take(5)
    if start[:4] != _MAGIC:
        raise StoreCorrupt("damaged frame: not zstd")
    try:
        yield start + octets.take(zstandard.frame_header_size(start) - len(start))
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error
    last = False
    while not last:
        head = octets.take(3)
        number = int.from_bytes(head, "little")
        last, kind, length = bool(number & 1), number >> 1 & 3, number >> 3
        if kind == _RESERVED or length > MAX_BLOCK:
            raise StoreCorrupt("damaged frame: no such block")
        yield head + octets.take(1 if kind == _RLE else length)
    if start[4] & _CHECKSUM:
        yield octets.take(4)
    if not octets.used_up:
        raise StoreCorrupt("something stands behind the frame")
