"""The sync CRCs: vectors computed by the documented formulas and seen in real traffic."""

from __future__ import annotations

import hashlib
from zlib import crc32

from hypothesis import given

from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol.crc import (
    ANNOT_SEED,
    CREATEDMODSEQ,
    THRID,
    annot_crc,
    crcs_match,
    flags_crc,
    mailbox_crcs,
    record_crc,
    wide_ids,
)
from tests.common.protocol.values import record_lists

A = Record(
    1,
    5,
    1700000000,
    "",
    False,
    1600000000,
    20,
    hashlib.sha1(b"Subject: a\r\n\r\nfirst\r\n").digest(),
    savedate=1700000000,
    createdmodseq=5,
)
B = Record(
    2,
    9,
    1700000100,
    "\\Flagged \\Seen $Label1 Work",
    False,
    1600000500,
    21,
    hashlib.sha1(b"Subject: b\r\n\r\nsecond\r\n").digest(),
    thrid=0x00AB12CD34EF5678,
    savedate=1700000050,
    createdmodseq=6,
    annotations=(Annotation("/comment", "alice", 8, "café".encode()),),
)


def test_records_have_the_published_crcs() -> None:
    assert A.guid.hex() == "cd081e01676d96c437b3d729301bebdaf4c14102"
    assert record_crc(A) == 2155384394
    assert flags_crc(B.flags) == 978571507
    assert record_crc(B) == 3677835528
    assert mailbox_crcs([A, B]) == (1531961154, 692550002)
    assert mailbox_crcs([B, A], (0, 0)) == (1531961154, 704321596)


def test_annotations_and_virtual_ones_have_the_published_crcs() -> None:
    assert annot_crc(A) == 2861288652 ^ 2343119742
    assert annot_crc(B) == 2339075628 ^ 1470534716 ^ 714863031 ^ 4270844969
    assert annot_crc(B._replace(annotations=(), savedate=0, createdmodseq=0)) == 2339075628


def test_records_seen_on_the_wire_have_the_crcs_seen_with_them() -> None:
    one = Record(
        1,
        21,
        1795239518,
        "\\Seen $Lab NonJunk",
        False,
        1704067200,
        1,
        bytes.fromhex("92d3b70197cb37afc4a8c9dcbcf685c9596d8abc"),
        0x03206EE09CA23CBD,
        1795239518,
        10,
        (Annotation("/comment", "alice.b", 0, b"msgnote"),),
    )
    two = Record(
        2,
        11,
        1795239518,
        "\\Flagged",
        False,
        1704067200,
        1,
        bytes.fromhex("33b38ec3fc2264f1eee4934771c3890887e23b1b"),
        0xA2405722F74B6FE3,
        1795239518,
        11,
    )
    assert mailbox_crcs([one, two]) == (3814000493, 225413224)


def test_an_empty_mailbox_has_the_seed() -> None:
    assert mailbox_crcs([]) == (0, 12345678)


def test_expunged_records_count_nothing() -> None:
    gone = B._replace(expunged=True)
    assert record_crc(gone) == annot_crc(gone) == 0
    assert mailbox_crcs([A, gone]) == mailbox_crcs([A])


def test_flags_count_whatever_their_case_and_order() -> None:
    assert flags_crc("\\Seen WORK") == flags_crc("work \\seen")


def test_a_stored_annotation_with_a_virtual_name_is_not_counted() -> None:
    odd = A._replace(annotations=(Annotation(THRID, "", 0, b"x"), Annotation(CREATEDMODSEQ, "bob", 0, b"7")))
    assert annot_crc(odd) == annot_crc(A)


def test_more_flag_sets_than_are_cached_are_counted_right() -> None:
    expected = flags_crc("k0")
    for number in range(5000):
        flags_crc(f"k{number}")
    assert flags_crc("k0") == expected


@given(record_lists)
def test_crcs_can_be_kept_incrementally(records: list[Record]) -> None:
    basic, annot = 0, ANNOT_SEED
    for record in records:
        basic ^= record_crc(record)
        annot ^= annot_crc(record)
    assert mailbox_crcs(records) == (basic, annot)
    half = len(records) // 2
    assert mailbox_crcs(records[half:], mailbox_crcs(records[:half])) == (basic, annot)


def test_zero_and_none_are_not_compared() -> None:
    assert crcs_match((1, 2), (1, 2))
    assert crcs_match((0, 2), (1, 2))
    assert crcs_match((1, None), (1, 2))
    assert not crcs_match((1, 2), (3, 2))
    assert not crcs_match((0, 2), (0, 3))


def test_wide_ids_make_the_sum_of_the_development_branch_of_ours():
    """Cyrus 3.13 counts conversation ids with all 16 digits."""
    first = Record(1, 1, 1, "", False, 1, 1, b"x" * 20, thrid=0x00AB12CD34EF5678)
    full = first._replace(uid=2, thrid=0xA0AB12CD34EF5678)
    gone = first._replace(uid=3, expunged=True)
    _, ours = mailbox_crcs([first, full, gone])
    theirs = ANNOT_SEED
    for text in (b"1 %s  00ab12cd34ef5678", b"2 %s  a0ab12cd34ef5678"):
        theirs ^= crc32(text % THRID.encode())
    assert ours != theirs and ours ^ wide_ids([first, full, gone]) == theirs
