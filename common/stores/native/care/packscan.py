"""Every message in an owner's packs that is sound, whatever an index says of them."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.stores.frame_blocks import MAX_BLOCK, check_head
from cyrus_sync.common.stores.frames import content_pieces
from cyrus_sync.common.stores.native.packs import Place

_MAGIC = zstandard.FRAME_HEADER
_HEADER = 18
_PIECE = 256 * 1024
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4


class SoundFrame(NamedTuple):
    """A message that was read; `size` in bytes, unpacked."""

    guid: bytes
    place: Place
    size: int


def pack_number(path: Path) -> int:
    """The number in a pack's name, 0 for what is called otherwise."""
    text = path.stem.removeprefix("pack-")
    return int(text) if text.isascii() and text.isdigit() else 0


class PackScan:
    """The packs of one directory. After `frames` is through, `unreadable` says how many bytes of each pack
    are in no sound message."""

    def __init__(self, directory: Path) -> None:
        found = sorted((pack_number(path), path) for path in directory.glob("pack-*.zst") if path.is_file())
        self._packs = [(number, path) for number, path in found if number]
        self.sizes = {number: path.stat().st_size for number, path in self._packs}
        self.unreadable: dict[int, int] = {}

    def frames(self) -> Iterator[SoundFrame]:
        """The messages in the order in which they came. Raises OSError."""
        for number, path in self._packs:
            if not self.sizes[number]:
                continue
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from self._frames(number, data)

    def _frames(self, number: int, data: mmap.mmap) -> Iterator[SoundFrame]:
        position = lost = 0
        while position < len(data):
            found = self._frame(number, data, position)
            if found is not None:
                yield found
                position += found.place.length
                continue
            following = data.find(_MAGIC, position + 1)
            following = len(data) if following < 0 else following
            lost += following - position
            position = following
        self.unreadable[number] = lost

    def _frame(self, number: int, data: mmap.mmap, position: int) -> SoundFrame | None:
        try:
            size = int(zstandard.get_frame_parameters(data[position : position + _HEADER]).content_size)
            check_head(data[position : position + _HEADER], size)
            length = _length(data, position)
            digest = hashlib.sha1()
            seen = 0
            for piece in content_pieces(_pieces(data, position, length)):
                digest.update(piece)
                seen += len(piece)
        except (StoreCorrupt, zstandard.ZstdError, IndexError):
            return None
        if seen != size or not size:
            return None
        return SoundFrame(digest.digest(), Place(number, position, length), size)


def _length(data: mmap.mmap, position: int) -> int:
    """How long a frame is, from the heads of its blocks. Raises `StoreCorrupt`, IndexError."""
    checksum = data[position + 4] & _CHECKSUM
    end = position + zstandard.frame_header_size(data[position : position + _HEADER])
    last = False
    while not last:
        head = int.from_bytes(data[end : end + 3], "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        if kind == _RESERVED or length > MAX_BLOCK:
            raise StoreCorrupt("damaged frame: no such block")
        end += 3 + (1 if kind == _RLE else length)
        if end > len(data):
            raise StoreCorrupt("frame ends too early")
    end += 4 if checksum else 0
    if end > len(data):
        raise StoreCorrupt("frame ends too early")
    return end - position


def _pieces(data: mmap.mmap, position: int, length: int) -> Iterator[bytes]:
    for start in range(position, position + length, _PIECE):
        yield data[start : min(start + _PIECE, position + length)]
