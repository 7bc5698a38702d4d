"""`ObjectStore`: the few things that an object store can do, the same for S3 and for a directory.

An object is octets under a key, written whole or not at all, and not changed afterwards but by another `put`.
A key is words with slashes between them; a *folder* is what stands before one of the slashes. Whoever holds a
store may call it from many threads. All of it blocks.

Three errors, and what they say is the address of the trouble: the store, the bucket, the key.

`ObjectMissing`
    The store answered, and there is no such object.
`ObjectsUnavailable`
    The store did not answer, or not to us: what is in it is not known to be lost. Trying again may help.
`ObjectDamaged`
    What the store gave back is not what was put there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from cyrus_sync.common.errors import ObjectDamaged

PIECE = 8 * 1024 * 1024
"""Octets of a large object that are sent, read or held at once."""

_KEY = re.compile(r"(?:[^/\x00-\x1f\x7f]{1,255}/)*[^/\x00-\x1f\x7f]{1,255}")

Content = bytes | Iterable[bytes]
"""What is put: octets, or pieces of a large object, which are read once."""


class Put(NamedTuple):
    """What was put: octets, and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Listed(NamedTuple):
    """An object in a folder. `modified` is the time of the store's own clock."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """A place for objects. Every call may raise `ObjectsUnavailable`."""

    @property
    def place(self) -> str:
        """What a person calls it: ``s3://bucket/prefix at https://…``, ``file:/backup``."""

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        """Make `key` this object; until that is done, it is what it was. Where `content` raises, nothing is
        put. Pieces of any size are sent as parts of `PIECE` octets, and few of them are held. `check`: the
        object is read back, and its SHA-256 compared; `ObjectDamaged` if the store has something else."""

    def get(self, key: str) -> bytes:
        """The whole object. `ObjectMissing`."""

    def pieces(self, key: str) -> Iterator[bytes]:
        """The whole object in pieces of at most `PIECE` octets. `ObjectMissing`."""

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """`length` octets from `offset`, fewer at the end of the object. `ObjectMissing`."""

    def size(self, key: str) -> int:
        """How many octets the object has. `ObjectMissing`."""

    def listed(self, folder: str = "") -> Iterator[Listed]:
        """Everything in a folder and below it, "" for all that there is; in no order that counts."""

    def folders(self, folder: str = "") -> list[str]:
        """The keys of the folders that are in this one, without what is below them, in order."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete many. One that is not there is fine."""

    def now(self) -> datetime:
        """The time of the clock by which `Listed.modified` goes."""

    def close(self) -> None: ...


# -- what every store does in the same way


def check_key(key: str) -> str:
    """`key`, if every store can have it; else ValueError."""
    if not _KEY.fullmatch(key) or any(word in (".", "..") for word in key.split("/")):
        raise ValueError(f"{key!r} is not a key")
    return key


def pieces_of(path: Path, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """A file, or `length` octets of it from `offset`, in pieces. EOFError where it has fewer."""
    with path.open("rb") as file:
        file.seek(offset)
        left = length if length is not None else -1
        while left and (data := file.read(PIECE if left < 0 else min(left, PIECE))):
            left -= len(data) if left > 0 else 0
            yield data
        if left > 0:
            raise EOFError(f"{path} ends {left} octets before {offset} + {length}")


def in_pieces(content: Content) -> Iterator[bytes]:
    """`content` as pieces of exactly `PIECE` octets, but for the last one; none where it is empty."""
    if isinstance(content, bytes):
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE] if len(content) > PIECE else content
        return
    waiting: bytes | bytearray = b""  # A piece that comes in the right size is handed on, and not copied.
    for piece in content:
        if not waiting:
            waiting = piece
        elif isinstance(waiting, bytearray):
            waiting += piece
        else:
            waiting = bytearray(waiting) + piece
        while len(waiting) >= PIECE:
            yield bytes(waiting[:PIECE]) if len(waiting) > PIECE else bytes(waiting)
            waiting = waiting[PIECE:]
    if waiting:
        yield bytes(waiting)


class Counted:
    """Pieces that are counted and hashed as they pass."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._hash = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self._size += len(piece)
            yield piece

    @property
    def total(self) -> Put:
        """Of what has passed."""
        return Put(self._size, self._hash.hexdigest())


def digest(pieces: Iterable[bytes]) -> Put:
    """Size and SHA-256 of what `pieces` are together."""
    counted = Counted(pieces)
    for _ in counted:
        pass
    return counted.total


def check_back(store: ObjectStore, key: str, put: Put) -> None:
    """Read an object and compare it with what was put; `ObjectDamaged`."""
    found = digest(store.pieces(key))
    if found != put:
        raise ObjectDamaged(
            f"{store.place}: {key}: {put.size} octets with SHA-256 {put.sha256} were put, and {found.size}"
            f" with {found.sha256} came back"
        )
