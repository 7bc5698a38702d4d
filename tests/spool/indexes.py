"""Changing golden indexes so that only what a test is about is wrong: checksums are made right again."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from cyrus_sync.spool.index.header import IndexHeader, parse_index_header


class Index:
    """The content of a cyrus.index; offsets as in cyrus-imapd's mailbox.h."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray(path.read_bytes())

    @property
    def header(self) -> IndexHeader:
        return parse_index_header(bytes(self.data), self.path)

    def put(self, offset: int, value: int, size: int = 4) -> Index:
        """A number into the header."""
        self.data[offset : offset + size] = value.to_bytes(size, "big")
        return self

    def put_in(self, record: int, offset: int, value: int, size: int = 4) -> Index:
        """A number into a record."""
        at = self.header_size + record * self.record_size + offset
        self.data[at : at + size] = value.to_bytes(size, "big")
        return self

    @property
    def header_size(self) -> int:
        return int.from_bytes(self.data[12:16], "big")

    @property
    def record_size(self) -> int:
        return int.from_bytes(self.data[16:20], "big")

    def save(self) -> None:
        """With the checksums of the header and of all records made right."""
        self._seal(0, self.header_size)
        for at in range(self.header_size, len(self.data) - self.record_size + 1, self.record_size):
            self._seal(at, self.record_size)
        self.path.write_bytes(self.data)

    def _seal(self, at: int, size: int) -> None:
        end = at + size - 4
        self.data[end : end + 4] = crc32(self.data[at:end]).to_bytes(4, "big")
