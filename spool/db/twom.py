"""The format twom: a successor of twoskip, from Cyrus 3.13 on.

Numbers are little-endian, checksums the low 32 bits of XXH3 (or all 0, where the file says so). The file
is longer than what is in it. A deleted key stays in the chain behind a marker, a changed one is linked in
place of what it was.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from struct import Struct

from xxhash import xxh3_64_intdigest

from cyrus_sync.spool.db.chain import FileHeader, Flaw, Node
from cyrus_sync.spool.db.mapped import Data, MappedFile

MAGIC = b"\xa1\x02\x8b\x0dtwomfile\0\0\0\0"
VERSION = 1

_HEADER = Struct("<16s16sIIQQQQQQII")
_HEAD = Struct("<BBHI")
_WORD = Struct("<I")
_LONG = Struct("<Q")
_PAIR = Struct("<QQ")
_CHECKS = Struct("<II")
_FIRST = _HEADER.size
_MOST_LEVELS = 31

_GATE = (0, 16)
_RECORDS = (96, 272)
"""Ranges that a reader of Cyrus locks; the first only for a moment."""

_UNCHECKED = 1 << 27
_FOREIGN = 1 << 29 | 1 << 30
"""Another checksum or another order of keys than ours. Cyrus sets neither."""

_DUMMY, _ADD, _FAT_ADD, _REPLACE, _FAT_REPLACE, _DELETE = range(1, 7)
_LINKED = (_ADD, _FAT_ADD, _REPLACE, _FAT_REPLACE)
_POINTERS = {_DUMMY: 8, _ADD: 8, _FAT_ADD: 24, _REPLACE: 16, _FAT_REPLACE: 32}
"""Where in a record its pointers begin."""

_DELETE_SIZE = 24


class Twom:
    """A `Format`. Stateless."""

    name = "twom"

    def header(self, data: Data) -> FileHeader:
        if len(data) < _HEADER.size:
            raise Flaw("shorter than a header", 0)
        image = bytes(data[: _HEADER.size])
        magic, _, version, flags, _, _, _, _, _, end, _, check = _HEADER.unpack(image)
        if magic != MAGIC:
            raise Flaw("no twom file", 0)
        if version != VERSION:
            raise Flaw(f"version {version} is not known", 32)
        if flags & _FOREIGN:
            raise Flaw(f"flags {flags:#x}: a checksum or an order that only its maker knows", 36)
        if check != (0 if flags & _UNCHECKED else _sum(image[:-4])):
            raise Flaw("the checksum of the header is wrong", _HEADER.size - 4)
        return FileHeader(image, end, version)

    def locked(self, file: MappedFile) -> AbstractContextManager[Data]:
        return file.locked(_RECORDS, gate=_GATE)

    def first(self, data: Data, end: int) -> Node:
        return self._read(data, _FIRST, end, (_DUMMY,))

    def node(self, data: Data, offset: int, end: int) -> Node:
        return self._read(data, offset, end, _LINKED)

    def higher(self, data: Data, node: Node, level: int) -> int:
        return int(_LONG.unpack_from(data, node.pointers + 8 * (level + 1))[0])

    def following(self, data: Data, node: Node, end: int) -> Node | None:
        one, other = _PAIR.unpack_from(data, node.pointers)
        offset = max(one if one < end else 0, other if other < end else 0)
        if not offset:
            return None
        if data[offset] != _DELETE:
            return self._read(data, offset, end, _LINKED)
        if offset < _FIRST or offset % 8 or offset + _DELETE_SIZE > end:
            raise Flaw("a pointer leads to where no record is", offset)
        if _CHECKS.unpack_from(data, offset + 16)[0] != self._check(data, offset, offset + 16):
            raise Flaw("the checksum of a delete marker is wrong", offset)
        (ancestor,) = _LONG.unpack_from(data, offset + 8)
        return self._read(data, ancestor, end, _LINKED)._replace(live=False)

    def value(self, data: Data, node: Node) -> bytes:
        start = node.value - 1 - len(node.key)
        used = len(node.key) + node.length + 2
        if _CHECKS.unpack_from(data, start - 8)[1] != self._check(data, start, start + used + -used % 8):
            raise Flaw("the checksum of key and value is wrong", node.offset)
        return data[node.value : node.value + node.length]

    def _read(self, data: Data, offset: int, end: int, wanted: tuple[int, ...]) -> Node:
        if offset < _FIRST or offset % 8 or offset + 24 > end:
            raise Flaw("a pointer leads to where no record is", offset)
        kind, levels, key_length, length = _HEAD.unpack_from(data, offset)
        if kind not in wanted or levels > _MOST_LEVELS:
            raise Flaw(f"type {kind}, level {levels} where another record must be", offset)
        if kind in (_FAT_ADD, _FAT_REPLACE):
            key_length, length = _PAIR.unpack_from(data, offset + 8)
        pointers = offset + _POINTERS[kind]
        checks = pointers + 8 * (levels + 1)
        key = checks + 8
        if key + (0 if kind == _DUMMY else (key_length + length + 9) // 8 * 8) > end:
            raise Flaw("a record goes beyond what is committed", offset)
        if _CHECKS.unpack_from(data, checks)[0] != self._check(data, offset, checks):
            raise Flaw("the checksum of a record's head is wrong", offset)
        value = key + key_length
        return Node(offset, data[key:value], value + 1, length, pointers, levels)

    def _check(self, data: Data, start: int, stop: int) -> int:
        if _WORD.unpack_from(data, 36)[0] & _UNCHECKED:
            return 0
        return _sum(data[start:stop])


def _sum(octets: bytes) -> int:
    return xxh3_64_intdigest(octets) & 0xFFFF_FFFF if octets else 0
