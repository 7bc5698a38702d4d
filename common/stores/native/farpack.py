"""Packs that are in an object store: what stands in an owner's directory in the place of each.

``pack-000001.far`` says that the octets of ``pack-000001.zst`` are an object. It is a line of JSON::

    {"format": 1, "key": "tier/users/52/alice/pack-000001-8c0f….zst", "octets": 134217802, "sha256": "…",
     "identity": "2049.7340", "modified": 1700000000, "block": 131072, "sums": "0f1e…"}

`sums` are the first 16 octets, in hexadecimal digits, of the SHA-256 of each block: so a part can be read and
proved alone. `identity` is that of the file that was uploaded (`packs.PackOctets`), `modified` its time in
Unix seconds. Where both files are there, the pack is the one that is near: somebody was on the way from one
to the other. A pack that is far never changes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from cyrus_sync.common.errors import (
    ConfigError,
    ObjectMissing,
    ObjectsUnavailable,
    StoreCorrupt,
    UsageError,
)
from cyrus_sync.common.files import write_over
from cyrus_sync.common.stores.native.layout import far_name, pack_name

BLOCK = 128 * 1024
"""Octets of a far pack that are fetched, kept and proved together."""

_SUM = 16
_FORMAT = 1


class FarPack(NamedTuple):
    """A pack in an object store."""

    key: str
    octets: int
    sha256: str
    identity: str
    modified: int
    sums: bytes
    block: int = BLOCK

    def sum_of(self, number: int) -> bytes:
        """What `block_sum` of a block must be."""
        return self.sums[number * _SUM : (number + 1) * _SUM]

    def length_of(self, number: int) -> int:
        """How many octets a block has."""
        return min(self.block, self.octets - number * self.block)

    @property
    def blocks(self) -> int:
        return -(-self.octets // self.block)


def block_sum(data: bytes | bytearray | memoryview) -> bytes:
    """What tells a block from every other one, and from what damage makes of it."""
    return hashlib.sha256(data).digest()[:_SUM]


class Summing:
    """Pieces whose blocks are summed as they pass."""

    def __init__(self, pieces: Iterable[bytes], block: int = BLOCK) -> None:
        self._pieces = pieces
        self._block = block
        self._sums = bytearray()
        self._waiting = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._waiting += piece
            while len(self._waiting) >= self._block:
                self._sums += block_sum(memoryview(self._waiting)[: self._block])
                del self._waiting[: self._block]
            yield piece

    @property
    def sums(self) -> bytes:
        """Of what has passed."""
        return bytes(self._sums) + (block_sum(self._waiting) if self._waiting else b"")


def read_far(path: Path) -> FarPack:
    """FileNotFoundError where the pack is not far; OSError; `StoreCorrupt`."""
    text = path.read_bytes()
    try:
        found = json.loads(text)
        if found["format"] > _FORMAT:
            raise StoreCorrupt(f"{path}: format {found['format']} is newer than this program knows")
        far = FarPack(
            str(found["key"]),
            int(found["octets"]),
            str(found["sha256"]),
            str(found["identity"]),
            int(found["modified"]),
            bytes.fromhex(found["sums"]),
            int(found["block"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is damaged: {error}") from error
    if far.block < 1 or far.octets < 1 or len(far.sums) != far.blocks * _SUM:
        raise StoreCorrupt(f"{path} is damaged: it does not sum up the whole pack")
    return far


def write_far(path: Path, far: FarPack) -> None:
    """Say, durably, that a pack is far. OSError."""
    about = {
        "format": _FORMAT, "key": far.key, "octets": far.octets, "sha256": far.sha256,
        "identity": far.identity, "modified": far.modified, "block": far.block, "sums": far.sums.hex(),
    }  # fmt: skip
    write_over(path, json.dumps(about).encode() + b"\n")


class FarReader(Protocol):
    """Reads packs in an object store. Safe for several threads."""

    def read(self, far: FarPack, offset: int, length: int) -> bytes:
        """`length` octets, fewer at the end. `ObjectMissing`; `StoreCorrupt` for what is not what was put;
        `ObjectsUnavailable` where it is not known to be lost."""

    def close(self) -> None: ...


class FarLater:
    """A `FarReader` that is opened by who first needs it: most never do."""

    def __init__(self, opened: Callable[[], FarReader]) -> None:
        """`opened` may raise ConfigError or UsageError: as long as imapd.conf does not say where a far pack
        is, it is unavailable."""
        self._opened = opened
        self._reader: FarReader | None = None
        self._lock = threading.Lock()

    def read(self, far: FarPack, offset: int, length: int) -> bytes:
        with self._lock:
            if self._reader is None:
                try:
                    self._reader = self._opened()
                except (ConfigError, UsageError, ImportError) as error:
                    raise ObjectsUnavailable(f"{far.key} is in an object store: {error}") from error
            reader = self._reader
        return reader.read(far, offset, length)

    def close(self) -> None:
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None


class FarFiles:
    """The far packs of one owner's directory (`nearfar.FarSide`)."""

    _KEEP = 4

    def __init__(
        self, directory: Path, reader: FarReader, find: Callable[[], Path | None] | None = None
    ) -> None:
        """`find`: in which directory the owner is now, asked where nothing is said of a pack."""
        self._directory = directory
        self._reader = reader
        self._find = find
        self._known: dict[int, FarPack] = {}

    def read(self, pack: int, offset: int, length: int) -> bytes:
        far = self._far(pack)
        try:
            return self._reader.read(far, offset, length)
        except ObjectMissing as error:
            if self._far(pack, again=True) != far:
                return self.read(pack, offset, length)  # It has come back, and gone again.
            raise StoreCorrupt(f"{self.name(pack)}: the object store has lost it: {error}") from error

    def size(self, pack: int) -> int:
        return self._far(pack).octets

    def identity(self, pack: int) -> str:
        return self._far(pack).identity

    def again(self) -> FarFiles:
        return FarFiles(self._directory, self._reader, self._find)

    def name(self, pack: int) -> str:
        return str(self._directory / pack_name(pack))

    def _far(self, pack: int, *, again: bool = False) -> FarPack:
        found = None if again else self._known.pop(pack, None)
        if found is None:
            found = self._said(pack)
        self._known[pack] = found
        while len(self._known) > self._KEEP:
            self._known.pop(next(iter(self._known)))
        return found

    def _said(self, pack: int) -> FarPack:
        try:
            return read_far(self._directory / far_name(pack))
        except FileNotFoundError:
            now = self._find() if self._find is not None else None
            if now is None or now == self._directory:
                raise
            self._directory = now
            return read_far(now / far_name(pack))
