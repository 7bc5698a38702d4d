"""Answers larger than memory: in a file beyond the bound, read again and again."""

from __future__ import annotations

from cyrus_sync.common.model import Record
from cyrus_sync.common.wire.spool import ByteSpool, RecordSpool

RECORDS = [Record(uid, 5, 6, "\\Seen work", False, 7, 8, bytes(19) + b"x", 1, 2, 3) for uid in range(1, 101)]


def test_records_beyond_the_bound_come_back_in_order() -> None:
    spool = RecordSpool(in_memory=30)
    for at in range(0, 100, 20):
        assert spool.fits(RECORDS[at : at + 20]) == (at == 0)
        spool.add(RECORDS[at : at + 20])
    for _ in range(2):
        assert [record for batch in spool for record in batch] == RECORDS


def test_two_readers_do_not_disturb_each_other() -> None:
    spool = RecordSpool(in_memory=0)
    spool.add(RECORDS[:50])
    spool.add(RECORDS[50:])
    one, two = iter(spool), iter(spool)
    assert next(one) == next(two) == RECORDS[:50]
    assert next(two) == next(one) == RECORDS[50:]


def test_bytes_beyond_the_bound_come_back_in_order() -> None:
    spool = ByteSpool(in_memory=10)
    pieces = [bytes([n]) * 200_000 for n in range(5)]
    spool.add(b"small")
    for piece in pieces:
        assert not spool.fits(piece)
        spool.add(piece)
    for _ in range(2):
        assert b"".join(spool) == b"small" + b"".join(pieces)
