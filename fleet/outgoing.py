"""What a commit has added to packs, on its way: small messages go into the row of the journal, large ones
into objects, before the commit."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.homes import Grown
from cyrus_sync.common.stores.native.layout import encode_name, pack_name
from cyrus_sync.fleet.errors import away
from cyrus_sync.fleet.journal import Piece
from cyrus_sync.objects.store import ObjectStore, pieces_of

LARGE = 256 * 1024
"""A frame of more octets is an object of its own: PostgreSQL would write it three times."""

MOST = 8 * 1024 * 1024
"""So many octets of packs are in one row at most. What is more goes into objects of about this size."""

_LONGEST_HEADER = 18
_RLE, _CHECKSUM = 1, 4


class _Part(NamedTuple):
    start: int
    end: int
    large: bool


def new_place(owner: Owner) -> str:
    """What the keys of all objects of a new owner begin with. No other one ever has it."""
    return f"{owner.kind}/{encode_name(owner.name) or '-'}/{secrets.token_hex(8)}"


def new_key(place: str, seq: int) -> str:
    """A key for an object that belongs to commit `seq` of an owner. No other one ever has it."""
    return f"{place}/{seq:012d}-{secrets.token_hex(8)}"


class Outgoing:
    """The octets of one commit."""

    def __init__(self, packs: Path, objects: ObjectStore, place: str, seq: int) -> None:
        self._packs = packs
        self._objects = objects
        self._place = place
        self._seq = seq
        self.pieces: list[Piece] = []
        self._data: list[bytes] = []
        self._octets = 0

    def behind(self, head: bytes) -> bytes:
        """The data of the row, which begins with `head`. `pieces` are right afterwards."""
        self.pieces = [
            piece if piece.key else piece._replace(offset=piece.offset + len(head)) for piece in self.pieces
        ]
        return b"".join([head, *self._data])

    def take(self, grown: Grown) -> None:
        """Everything that the commit has added. Objects are there when this returns. `Away`."""
        for number, (start, end) in sorted(grown.items()):
            path = self._packs / pack_name(number)
            for part in parts(path, start, end):
                if part.large or part.end - part.start > MOST - self._octets:
                    self._put(number, path, part)
                else:
                    self._inline(number, path, part)

    def put(self, number: int, path: Path, start: int, end: int) -> None:
        """Octets of a pack, in objects alone: what is much, before the commit. They are there when this
        returns. `Away`."""
        for part in parts(path, start, end):
            self._put(number, path, part)

    def keep(self, packs: Collection[int]) -> None:
        """Forget what was put of all packs but these."""
        self.pieces = [piece for piece in self.pieces if piece.pack in packs]

    def _inline(self, number: int, path: Path, part: _Part) -> None:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (at every commit)
            data = os.pread(file.fileno(), part.end - part.start, part.start)
        if len(data) != part.end - part.start:
            raise StoreCorrupt(f"{path} ends before {part.end}")
        self.pieces.append(Piece(number, part.start, part.end, "", self._octets))
        self._data.append(data)
        self._octets += len(data)

    def _put(self, number: int, path: Path, part: _Part) -> None:
        key = new_key(self._place, self._seq)
        with away():
            self._objects.put(key, pieces_of(path, part.start, part.end - part.start))
        self.pieces.append(Piece(number, part.start, part.end, key))


def parts(path: Path, start: int, end: int) -> Iterator[_Part]:
    """What was added to a pack, cut between frames: large ones alone, others together, up to `MOST`."""
    if end - start <= LARGE:
        yield _Part(start, end, large=False)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        begun = position = start
        while position < end:
            following = min(_end_of_frame(octets, position) or end, end)
            if following - position > LARGE or following - begun > MOST:
                if begun < position:
                    yield _Part(begun, position, large=False)
                begun = position
            if following - position > LARGE:
                yield _Part(position, following, large=True)
                begun = following
            position = following
        if begun < end:
            yield _Part(begun, end, large=False)


def _end_of_frame(octets: mmap.mmap, position: int) -> int:
    """Where the zstd frame ends that begins there (RFC 8878, 3.1.1); 0 where none does."""
    head = octets[position : position + _LONGEST_HEADER]
    try:
        position += zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return 0
    while position + 3 <= len(octets):
        number = int.from_bytes(octets[position : position + 3], "little")
        position += 3 + (1 if number >> 1 & 3 == _RLE else number >> 3)
        if number & 1:
            return position + (4 if head[4] & _CHECKSUM else 0)
    return 0
