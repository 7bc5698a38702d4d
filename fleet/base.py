"""Bases: the objects in which a whole index is kept, as it was after one commit.

A base is a line of JSON, and then the index, compressed by zstd. So a person reads one with ``head -n 1``,
and takes the index out of it with ``tail -n +2 | zstd -d``. The line::

    {"format": 1, "kind": "user", "name": "alice", "seq": 17, "head": 4711, "octets": 13312, "sha256": "…",
     "packs": [[1, 0, 8388608, "user/alice/3f9c…/000000000012-77aa….pack", 0], …]}

`packs` are `journal.Piece`: which octets of which pack are where. All of them are in objects. ``kept`` names
objects that are not needed any more, and since when, in Unix seconds (`settler`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.errors import away
from cyrus_sync.fleet.journal import Piece
from cyrus_sync.objects.store import ObjectStore

_FORMAT = 1
_FIRST = 64 * 1024
_LEVEL = 3


class About(NamedTuple):
    """The line of a base."""

    seq: int
    head: int
    octets: int
    sha256: str
    pieces: Sequence[Piece]
    kept: Mapping[str, float]


def encode_base(
    owner: Owner, seq: int, head: int, index: bytes, pieces: Sequence[Piece], *, kept: Mapping[str, float]
) -> bytes:
    """The object."""
    about = {
        "format": _FORMAT, "kind": owner.kind, "name": owner.name, "seq": seq, "head": head,
        "octets": len(index), "sha256": hashlib.sha256(index).hexdigest(), "packs": pieces,
        "kept": kept,
    }  # fmt: skip
    return json.dumps(about).encode() + b"\n" + zstandard.ZstdCompressor(level=_LEVEL).compress(index)


def decode_base(data: bytes) -> tuple[About, bytes]:
    """Line and index of an object. `StoreCorrupt`."""
    line, _, body = data.partition(b"\n")
    about = _about(line)
    try:
        index = zstandard.ZstdDecompressor().decompress(body, max_output_size=about.octets)
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"a base is damaged: {error}") from error
    if hashlib.sha256(index).hexdigest() != about.sha256:
        raise StoreCorrupt("a base is damaged: its index has another SHA-256")
    return about, index


def _about(line: bytes) -> About:
    try:
        found = json.loads(line)
        if found["format"] > _FORMAT:
            raise StoreCorrupt(f"a base of format {found['format']} is newer than this program knows")
        pieces = [Piece(*one) for one in found["packs"]]
        kept = {str(key): float(since) for key, since in found["kept"].items()}
        return About(found["seq"], found["head"], found["octets"], found["sha256"], pieces, kept)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupt(f"a base is damaged: {error}") from error


def get_base(objects: ObjectStore, key: str) -> tuple[About, bytes]:
    """A whole base. `ObjectMissing`, `Away`, `StoreCorrupt`."""
    return decode_base(get_object(objects, key))


def get_about(objects: ObjectStore, key: str) -> About:
    """The line of a base. `ObjectMissing`, `Away`, `StoreCorrupt`."""
    wanted = _FIRST
    while True:
        data = get_range(objects, key, 0, wanted)
        line, end, _ = data.partition(b"\n")
        if end or len(data) < wanted:
            return _about(line)
        wanted *= 4


def get_object(objects: ObjectStore, key: str) -> bytes:
    """`ObjectMissing`, `Away`."""
    with away():
        return objects.get(key)


def get_range(objects: ObjectStore, key: str, offset: int, length: int) -> bytes:
    """`ObjectMissing`, `Away`."""
    with away():
        return objects.get_range(key, offset, length)
