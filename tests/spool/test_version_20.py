"""Version 20 of the index, of Cyrus 3.13, written here octet by octet: no release of Debian has it."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import pytest

from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs

from .golden import records, snapshot

NAMESPACE = "/vendor/cmu/cyrus-imapd/"
SECOND = 10**9
HEADER = (
    b"\xa1\x02\x8b\x0dCyrus mailbox header\n"
    b'"The best thing about this system was that it had lots of goals."\n\t--Jim Morris on Andrew\n'
    b"%(T e N user.al I 0c5e8f0a-1d2c-4d0e-9a53-1c2f3a4b5c6d J P-F A %(al lrs) U (one two))\n"
)
LIVE = Record(
    3, 12, 1700000300, "\\Answered \\Seen two", False, 1700000100, 5 * 2**30, b"\x11" * 20,
    thrid=0xABC, savedate=1700000200, createdmodseq=7,
    annotations=(
        Annotation(NAMESPACE + "basethrid", "", 0, b"00000000000000ef"),
        Annotation(NAMESPACE + "internaldate.nsec", "", 0, b"123456789"),
    ),
)  # fmt: skip
GONE = Record(4, 15, 1700000400, "", True, 1700000000, 99, b"\x22" * 20, thrid=0x1234567890ABCDEF)


def record(of: Record, flags: int, keywords: int, nanoseconds: int = 0, basethrid: int = 0) -> bytes:
    data = bytearray(144)
    struct.pack_into(">I", data, 0, of.uid)
    struct.pack_into(">Q", data, 8, of.internaldate * SECOND + nanoseconds)
    struct.pack_into(">Q", data, 24, of.size)
    struct.pack_into(">II", data, 36, flags, keywords)
    data[60:80] = of.guid
    struct.pack_into(">QQQ", data, 80, of.modseq, of.thrid, of.createdmodseq)
    struct.pack_into(">QQQ", data, 112, of.last_updated * SECOND + 5, of.savedate * SECOND, basethrid)
    return sealed(data)


def sealed(data: bytearray) -> bytes:
    data[-4:] = crc32(data[:-4]).to_bytes(4, "big")
    return bytes(data)


def index(wide: bool) -> bytes:
    basic, annot = mailbox_crcs([LIVE, GONE])
    if wide:
        annot ^= crc32(b"3 /vendor/cmu/cyrus-imapd/thrid  abc")
        annot ^= crc32(b"3 /vendor/cmu/cyrus-imapd/thrid  0000000000000abc")
    data = bytearray(192)
    struct.pack_into(">6I", data, 0, 1, 0, 20, 192, 144, 2)
    struct.pack_into(">Q", data, 24, 1700000100 * SECOND)
    struct.pack_into(">I", data, 60, 1)
    struct.pack_into(">QQII", data, 72, 15, 9, 4, 1700000000)
    struct.pack_into(">II", data, 96, crc32(HEADER), basic)
    struct.pack_into(">QQ", data, 104, 1700000150 * SECOND, 1700000160 * SECOND)
    struct.pack_into(">I", data, 120, annot)
    struct.pack_into(">Q", data, 128, 6)
    struct.pack_into(">I", data, 184, 2)
    live = record(LIVE, 0x11, 2, nanoseconds=123456789, basethrid=0xEF)
    return sealed(data) + live + record(GONE, 0xC0000000, 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "cyrus.header").write_bytes(HEADER)
    return tmp_path


@pytest.mark.parametrize("wide", [True, False])
def test_nanoseconds_and_base_threads_are_annotations(directory: Path, wide: bool) -> None:
    """Both ways to count thread ids are right: 3.13's with all digits, and that of before."""
    (directory / "cyrus.index").write_bytes(index(wide))
    with snapshot(directory) as mailbox:
        assert records(mailbox) == [LIVE, GONE]
        assert mailbox.crcs == mailbox_crcs([LIVE, GONE])
        assert not mailbox.complaint
        assert [place.uid for batch in mailbox.places() for place in batch] == [3]
        counters = mailbox.index
    assert (counters.last_uid, counters.highestmodseq, counters.deletedmodseq) == (4, 15, 9)
    assert (counters.uidvalidity, counters.createdmodseq, counters.recentuid) == (1700000000, 6, 2)
    assert (counters.last_appenddate, counters.recenttime) == (1700000100, 1700000150)
    assert (counters.pop3_show_after, counters.exists) == (1700000160, 1)


def test_an_index_of_before_3_2_starts_its_sum_of_annotations_at_0(directory: Path) -> None:
    data = bytearray(index(wide=False))
    stored = int.from_bytes(data[120:124], "big")
    data[120:124] = (stored ^ ANNOT_SEED).to_bytes(4, "big")
    (directory / "cyrus.index").write_bytes(sealed(data[:192]) + data[192:])
    with snapshot(directory) as mailbox:
        assert not mailbox.complaint
