"""The format twoskip: the default of most of Cyrus's databases since 2.5.

Numbers are big-endian. Everything in the file is covered by a CRC-32: the header, the head of each record
(pointers included), its key and value.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from struct import Struct
from zlib import crc32

from cyrus_sync.spool.db.chain import FileHeader, Flaw, Node
from cyrus_sync.spool.db.mapped import Data, MappedFile

MAGIC = b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0"
VERSION = 1

_HEADER = Struct(">20sIQQQQII")
_HEAD = Struct(">BBHI")
_LONG = Struct(">Q")
_POINTERS = [Struct(f">{count}Q") for count in range(33)]
_CHECKS = Struct(">II")
_FIRST = _HEADER.size
_MOST_LEVELS = 31
_DUMMY, _RECORD, _DELETED = b"=+-"


class Twoskip:
    """A `Format`. Stateless."""

    name = "twoskip"

    def header(self, data: Data) -> FileHeader:
        if len(data) < _HEADER.size:
            raise Flaw("shorter than a header", 0)
        image = bytes(data[: _HEADER.size])
        magic, version, _, _, _, end, _, check = _HEADER.unpack(image)
        if magic != MAGIC:
            raise Flaw("no twoskip file", 0)
        if version != VERSION:
            raise Flaw(f"version {version} is not known", 20)
        if crc32(image[:-4]) != check:
            raise Flaw("the CRC of the header is wrong", _HEADER.size - 4)
        return FileHeader(image, end, version)

    def locked(self, file: MappedFile) -> AbstractContextManager[Data]:
        return file.locked()

    def first(self, data: Data, end: int) -> Node:
        return self._read(data, _FIRST, end, _DUMMY)

    def node(self, data: Data, offset: int, end: int) -> Node:
        return self._read(data, offset, end, _RECORD)

    def higher(self, data: Data, node: Node, level: int) -> int:
        return int(_LONG.unpack_from(data, node.pointers + 8 * (level + 1))[0])

    def following(self, data: Data, node: Node, end: int) -> Node | None:
        one, other = _POINTERS[2].unpack_from(data, node.pointers)
        offset = max(one if one < end else 0, other if other < end else 0)
        if not offset:
            return None
        if data[offset] != _DELETED:
            return self._read(data, offset, end, _RECORD)
        # A marker in the place of a deleted record: its one pointer leads on, to a record.
        marker = self._read(data, offset, end, _DELETED)
        (offset,) = _LONG.unpack_from(data, marker.pointers)
        return self._read(data, offset, end, _RECORD) if 0 < offset < end else None

    def value(self, data: Data, node: Node) -> bytes:
        start = node.value - len(node.key)
        tail = data[start : node.value + node.length + -(len(node.key) + node.length) % 8]
        (check,) = _CHECKS.unpack_from(data, start - 8)[1:]
        if crc32(tail) != check:
            raise Flaw("the CRC of key and value is wrong", node.offset)
        return tail[len(node.key) : len(node.key) + node.length]

    def _read(self, data: Data, offset: int, end: int, wanted: int) -> Node:
        if offset < _FIRST or offset % 8 or offset + 24 > end:
            raise Flaw("a pointer leads to where no record is", offset)
        kind, levels, key_length, length = _HEAD.unpack_from(data, offset)
        if kind != wanted or levels > _MOST_LEVELS:
            raise Flaw(f"type {kind}, level {levels} where a record of type {chr(wanted)} must be", offset)
        at = offset + 8
        if key_length == 0xFFFF:
            (key_length,) = _LONG.unpack_from(data, at)
            at += 8
        if length == 0xFFFF_FFFF:
            (length,) = _LONG.unpack_from(data, at)
            at += 8
        checks = at + 8 * (levels + 1)
        key = checks + 8
        if key + (key_length + length + 7) // 8 * 8 > end:
            raise Flaw("a record goes beyond what is committed", offset)
        if crc32(data[offset:checks]) != _CHECKS.unpack_from(data, checks)[0]:
            raise Flaw("the CRC of a record's head is wrong", offset)
        value = key + key_length
        return Node(offset, data[key:value], value, length, at, levels)
