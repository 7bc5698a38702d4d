"""Every message in an owner's packs that is sound, whatever an index says of them."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, cast

import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.stores.frame_blocks import MAX_BLOCK, check_head
from cyrus_sync.common.stores.frames import content_pieces
from cyrus_sync.common.stores.native.farpack import BLOCK, read_far
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.packs import PackOctets, Place

_MAGIC = zstandard.FRAME_HEADER
_HEADER = 18
_PIECE = 256 * 1024
_BROUGHT_AT_ONCE = 4 * 1024 * 1024
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
    """The packs of one owner. After `frames` is through, `unreadable` says how many bytes of each pack
    are in no sound message."""

    def __init__(self, directory: Path, octets: PackOctets, scratch: Path) -> None:
        """`octets` reads those that are far, which are brought to `scratch`, one at a time."""
        self._directory = directory
        self._octets = octets
        self._scratch = scratch
        near = {pack_number(path): path for path in directory.glob("pack-*.zst") if path.is_file()}
        near.pop(0, None)
        self.sizes = {number: path.stat().st_size for number, path in near.items()}
        self.modified = {number: int(path.stat().st_mtime) for number, path in near.items()}
        """When each pack was written to last, in Unix seconds."""
        self.damaged: list[str] = []
        """What is wrong with packs that should be far, in sentences."""
        for path in directory.glob("pack-*.far"):
            number = pack_number(path)
            if number and number not in near:
                try:
                    far = read_far(path)
                except StoreCorrupt as error:
                    self.damaged.append(str(error))
                    continue
                self.sizes[number], self.modified[number] = far.octets, far.modified
        self.unreadable: dict[int, int] = {}

    def frames(self) -> Iterator[SoundFrame]:
        """The messages in the order in which they came. Raises OSError; `ObjectsUnavailable`."""
        for number, size in sorted(self.sizes.items()):
            if size:
                with self._file(number) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    yield from self._frames(number, data)

    @contextmanager
    def _file(self, number: int) -> Iterator[BinaryIO]:
        path = self._directory / pack_name(number)
        if path.exists():
            with path.open("rb") as near:
                yield near
            return
        with TemporaryFile(dir=self._scratch) as far:
            self._bring(number, cast(BinaryIO, far))
            yield cast(BinaryIO, far)

    def _bring(self, number: int, file: BinaryIO) -> None:
        """Write a pack that is far into a file. What cannot be read of it is octets of 0."""
        size = self.sizes[number]
        for start in range(0, size, _BROUGHT_AT_ONCE):
            length = min(_BROUGHT_AT_ONCE, size - start)
            try:
                file.write(self._octets.read(number, start, length))
            except StoreCorrupt:
                for at in range(start, start + length, BLOCK):
                    file.write(self._readable(number, at, min(BLOCK, start + length - at)))
        file.flush()

    def _readable(self, number: int, start: int, length: int) -> bytes:
        try:
            return self._octets.read(number, start, length)
        except StoreCorrupt:
            return bytes(length)

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
