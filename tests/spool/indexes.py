"""Changing golden indexes so that only what a test is about is wrong: checksums are made right again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zlib import crc32

from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.index.header import IndexHeader, parse_index_header
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.snapshot import take


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


def enlarge(directory: Path, count: int) -> None:
    """Make a mailbox of `count` messages, all live, out of a golden one of version 16 to 19: its first
    record over and over, with other UIDs, modseqs, GUIDs and \\Seen on half of them."""
    path = directory / "cyrus.index"
    index = Index(path)
    begin, size = index.header_size, index.record_size
    first = bytes(index.data[begin : begin + size])
    records = bytearray(first * count)
    for number in range(count):
        at, uid = number * size, (number + 1).to_bytes(4, "big")
        records[at : at + 4] = uid
        records[at + 32 : at + 36] = (16 * (number % 2)).to_bytes(4, "big")
        records[at + 60 : at + 80] = hashlib.sha1(uid).digest()
        records[at + 80 : at + 88] = (number + 2).to_bytes(8, "big")
    index.data[begin:] = records
    (directory / "cyrus.annotations").unlink()
    columns = index.header.layout.header
    index.put(columns["num_records"].offset, count).put(columns["exists"].offset, count)
    index.put(columns["last_uid"].offset, count).put(columns["highestmodseq"].offset, count + 1, 8)
    index.save()
    with take(MailboxFiles.below(directory), "", items_of) as mailbox:
        basic, annot = mailbox.crcs
    index.put(columns["sync_crc"].offset, basic).put(columns["sync_crc_annot"].offset, annot).save()
