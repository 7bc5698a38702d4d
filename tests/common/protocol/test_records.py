"""Records on the wire: the fast way and the general way agree, all old and odd forms are read."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.errors import BadParameters, ProtocolError
from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.record_reader import BATCH, RecordReader, decode_records
from cyrus_sync.common.protocol.records import (
    decode_annotations,
    decode_record,
    encode_annotations,
    encode_records,
    normal_flags,
)
from tests.common.protocol.values import annotation_sets, chunks, cut_lists, record_lists

GUID = "aba82959ececf5a30f63e9c81f19ec1232a723f0"
PLAIN = (
    f"%(UID 1 MODSEQ 9 LAST_UPDATED 1795239936 FLAGS (\\Answered \\Seen $Forwarded) INTERNALDATE 1704103200"
    f" SIZE 145 GUID {GUID})"
)
ANNOTATED = (
    f"%(UID 2 MODSEQ 9 LAST_UPDATED 1795239936 FLAGS () INTERNALDATE 1704103200 SIZE 145 GUID {GUID}"
    ' ANNOTATIONS (%(ENTRY /comment USERID alice MODSEQ 8 VALUE "on message")'
    ' %(ENTRY /vendor/cmu/cyrus-imapd/thrid USERID "" MODSEQ 0 VALUE 00ab12cd34ef5678)'
    ' %(ENTRY /vendor/cmu/cyrus-imapd/savedate USERID "" MODSEQ 0 VALUE 1795239936)'
    ' %(ENTRY /vendor/cmu/cyrus-imapd/createdmodseq USERID "" MODSEQ 0 VALUE 2)))'
)


def general(wire: bytes) -> list[Record]:
    """What the general path alone makes of a list's items."""
    value, _ = dlist.parse(b"(" + wire + b")")
    return [decode_record(item) for item in value]


def read(pieces: Iterable[bytes]) -> list[Record]:
    buffer, reader, records = Buffer(), RecordReader(dlist.DEFAULT_LIMITS), []
    for piece in pieces:
        buffer.append(piece)
        reader.feed(buffer)
        while reader.full:
            records += reader.take()
            reader.feed(buffer)
    assert reader.done
    return records + list(reader.take())


def one(wire: str) -> Record:
    records = decode_records(wire.encode("latin-1"))
    assert records == general(wire.encode("latin-1"))
    return records[0]


def test_a_record_as_cyrus_writes_it_is_read() -> None:
    assert one(PLAIN) == Record(
        1, 9, 1795239936, "\\Answered \\Seen $Forwarded", False, 1704103200, 145, bytes.fromhex(GUID)
    )
    assert one(ANNOTATED) == Record(
        2,
        9,
        1795239936,
        "",
        False,
        1704103200,
        145,
        bytes.fromhex(GUID),
        0x00AB12CD34EF5678,
        1795239936,
        2,
        (Annotation("/comment", "alice", 8, b"on message"),),
    )


@given(record_lists, st.booleans(), cut_lists)
def test_what_is_printed_reads_as_the_same_records_both_ways(
    records: list[Record], server: bool, cuts: list[int]
) -> None:
    wire = encode_records(records, server)
    assert decode_records(wire) == records
    assert general(wire) == records
    assert read(chunks(wire + b")", cuts)) == records


@given(
    record_lists,
    st.integers(0, 10**6),
    st.sampled_from([b"", b" ", b"0", b"\\", b'"', b"NIL", b"(", b")", b"%", b"x"]),
)
def test_both_ways_agree_on_damaged_records(records: list[Record], at: int, inserted: bytes) -> None:
    wire = encode_records(records, server=True)
    at %= len(wire) + 1
    wire = wire[:at] + inserted + wire[at + 1 :]

    def outcome(way: object) -> object:
        try:
            found = way(wire)  # type: ignore[operator]
        except (ProtocolError, dlist.ParseError):
            return "error"
        uids = [record.uid for record in found]
        return found if uids == sorted(set(uids)) else "error"

    expected = outcome(general)
    if dlist_is_complete(wire):
        assert outcome(decode_records) == expected


def dlist_is_complete(wire: bytes) -> bool:
    """False where a parenthesis too many or too few makes the end of the list a matter of taste."""
    try:
        return dlist.parse(b"(" + wire + b")")[1] == len(wire) + 2
    except dlist.ParseError:
        return False


def test_the_fast_way_takes_what_cyrus_writes() -> None:
    """No parser is made for it: otherwise the two paths being equal would prove nothing."""
    buffer = Buffer()
    buffer.append(f"{PLAIN} {ANNOTATED}".encode())
    reader = RecordReader(dlist.DEFAULT_LIMITS)
    reader._read_fast(buffer)
    assert len(reader.records) == 2
    assert len(buffer) == 0


def test_any_key_order_case_of_flags_and_white_space_is_read() -> None:
    odd = (
        f"%( GUID {GUID.upper()}\r\t SIZE 145 INTERNALDATE {{10}}\r\n1704103200 FLAGS"
        ' ($Forwarded \\SEEN "\\Answered" \\Recent \\X) LAST_UPDATED "1795239936" MODSEQ 9 EXTRA (x) UID 1 )'
    )
    wire = odd.replace('"\\Answered"', "\\answered")
    assert one(wire) == one(PLAIN)


def test_expunged_is_a_flag_of_its_own() -> None:
    record = one(PLAIN.replace("\\Answered \\Seen", "\\Deleted \\Expunged"))
    assert (record.flags, record.expunged) == ("\\Deleted $Forwarded", True)
    wire = encode_records([record._replace(flags="\\Deleted \\Draft \\Seen work")], server=True)
    assert b"FLAGS (\\Deleted \\Draft \\Expunged \\Seen work)" in wire


def test_annotations_of_old_peers_are_read() -> None:
    """2.5 and 3.0: no MODSEQ, and the conversation id with a NIL userid."""
    old = re.sub(r" MODSEQ [08] VALUE", " VALUE", ANNOTATED).replace('thrid USERID ""', "thrid USERID NIL")
    record = one(old)
    assert record.thrid == 0x00AB12CD34EF5678
    assert record.annotations == (Annotation("/comment", "alice", 0, b"on message"),)


def test_a_private_annotation_with_a_virtual_name_is_a_real_one() -> None:
    record = one(ANNOTATED.replace('savedate USERID ""', "savedate USERID bob"))
    assert record.savedate == 0
    assert record.annotations[1] == Annotation("/vendor/cmu/cyrus-imapd/savedate", "bob", 0, b"1795239936")


def test_virtual_entries_of_newer_peers_are_ordinary_annotations() -> None:
    record = one(ANNOTATED.replace("/thrid USERID", "/basethrid USERID"))
    assert record.thrid == 0
    assert [annotation.entry for annotation in record.annotations] == [
        "/comment",
        "/vendor/cmu/cyrus-imapd/basethrid",
    ]


def test_annotations_come_out_sorted_without_empty_ones_and_doubles() -> None:
    wire = (
        b'(%(ENTRY /b USERID "" VALUE x) %(ENTRY /a USERID bob VALUE y) %(ENTRY /a USERID "" VALUE z)'
        b' %(ENTRY /c USERID "" VALUE "") %(ENTRY /d USERID "" VALUE NIL) %(ENTRY /b USERID "" VALUE 2nd))'
    )
    found = decode_annotations(dlist.parse(wire)[0])
    assert [(a.entry, a.userid, a.value) for a in found] == [
        ("/a", "", b"z"),
        ("/a", "bob", b"y"),
        ("/b", "", b"x"),
    ]


@given(annotation_sets, st.booleans())
def test_annotations_are_printed_and_read(annotations: tuple[Annotation, ...], server: bool) -> None:
    wire = dlist.encode(encode_annotations(annotations), server)
    assert decode_annotations(dlist.parse(wire)[0]) == annotations


def test_dates_before_1970_travel_as_64_bits() -> None:
    record = one(PLAIN)._replace(internaldate=-5, last_updated=-1)
    wire = encode_records([record], server=True)
    assert b"INTERNALDATE 18446744073709551611" in wire
    assert decode_records(wire) == [record]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UID 1 ", ""),
        ("UID 1", "UID 0"),
        ("UID 1", "UID 4294967296"),
        ("UID 1", "UID -1"),
        ("UID 1", "UID 1x"),
        ("UID 1", "UID NIL"),
        ("UID 1", "UID (1)"),
        ("UID 1", "UID %(a 1)"),
        ("UID 1", "UID %{p g 1}\r\n1"),
        ("UID 1", "UID 999999999999999999999999"),
        ("MODSEQ 9", "MODSEQ 9223372036854775808"),
        ("MODSEQ 9 ", ""),
        ("LAST_UPDATED 1795239936", "LAST_UPDATED 18446744073709551616"),
        ("FLAGS (\\Answered \\Seen $Forwarded)", "FLAGS \\Seen"),
        ("$Forwarded", "a%b"),
        ("$Forwarded", "a*b"),
        ("$Forwarded", "a\\b"),
        ("$Forwarded", "a\x7fb"),
        ("$Forwarded", "caf\xe9"),
        ("$Forwarded", '"a b"'),
        ("$Forwarded", '""'),
        ("$Forwarded", "(x)"),
        ("SIZE 145", "SIZE 0"),
        ("SIZE 145", "SIZE 4294967296"),
        (GUID, "0" * 40),
        (GUID, GUID[:-1]),
        (GUID, GUID[:-1] + "g"),
        ("UID 1", "ANNOTATIONS NIL UID 1"),
        ("UID 1", "ANNOTATIONS (x) UID 1"),
        ("UID 1", 'ANNOTATIONS (%(ENTRY x USERID "" VALUE y)) UID 1'),
        ("UID 1", "ANNOTATIONS (%(ENTRY /x VALUE (y))) UID 1"),
        ("UID 1", "ANNOTATIONS (%(ENTRY /vendor/cmu/cyrus-imapd/thrid VALUE xyz)) UID 1"),
        ("UID 1", "ANNOTATIONS (%(ENTRY /vendor/cmu/cyrus-imapd/savedate VALUE yesterday)) UID 1"),
    ],
)
def test_a_bad_record_is_a_protocol_error_both_ways(old: str, new: str) -> None:
    wire = PLAIN.replace(old, new, 1).encode("latin-1")
    assert wire != PLAIN.encode()
    with pytest.raises(ProtocolError):
        general(wire)
    with pytest.raises(ProtocolError):
        decode_records(wire)


def test_an_expunged_record_may_lack_its_message() -> None:
    gone = PLAIN.replace("\\Seen", "\\Expunged").replace("SIZE 145", "SIZE 0").replace(GUID, "0" * 40)
    assert one(gone).size == 0


@pytest.mark.parametrize("second", [1, 0])
def test_records_out_of_order_are_refused(second: int) -> None:
    wire = f"{PLAIN} {PLAIN.replace('UID 1', f'UID {second}') if second else PLAIN}".encode()
    with pytest.raises(ProtocolError):
        decode_records(wire)


def test_order_is_watched_from_slab_to_slab() -> None:
    lines = [PLAIN.replace("UID 1", f"UID {uid}") for uid in range(1, 1200)]
    assert len(decode_records(" ".join(lines).encode())) == 1199
    with pytest.raises(ProtocolError, match="order"):
        decode_records(" ".join([*lines, lines[500]]).encode())


def test_after_a_bad_record_the_rest_can_be_read_past() -> None:
    lines = [PLAIN.replace("UID 1", f"UID {uid}") for uid in range(1, 20)]
    for bad in ("FLAGS (a*b)", "FLAGS x"):
        lines[5] = re.sub(r"FLAGS \(.*?\)", lambda _, bad=bad: bad, lines[5])
        buffer, reader = Buffer(), RecordReader(dlist.DEFAULT_LIMITS)
        buffer.append(" ".join(lines).encode() + b") rest")
        with pytest.raises(ProtocolError):
            while not reader.done:
                reader.feed(buffer)
        reader.take()
        reader.discard = True
        reader.feed(buffer)
        assert reader.done
        assert not reader.records
        assert buffer.take(5) == b" rest"


def test_a_long_list_is_handed_over_in_batches() -> None:
    wire = " ".join(PLAIN.replace("UID 1", f"UID {uid}") for uid in range(1, 3 * BATCH)).encode() + b")"
    buffer, reader = Buffer(), RecordReader(dlist.DEFAULT_LIMITS)
    held = 0
    for piece in (wire[at : at + 65536] for at in range(0, len(wire), 65536)):
        buffer.append(piece)
        reader.feed(buffer)
        held = max(held, len(reader.records))
        while reader.full:
            reader.take()
            reader.feed(buffer)
    assert reader.done
    assert held < BATCH + 1000


def test_more_flag_sets_than_are_cached_are_read_right() -> None:
    for number in range(5000):
        assert one(PLAIN.replace("$Forwarded", f"k{number}")).flags.endswith(f"k{number}")


def test_flags_are_brought_into_cyrus_order_and_spelling() -> None:
    assert normal_flags(["work", "\\seen", "Work", "\\DELETED", "\\Odd"]) == ("\\Deleted \\Seen work", False)


def test_a_keyword_called_nil_survives() -> None:
    record = one(PLAIN.replace("$Forwarded", "NIL"))
    assert record.flags == "\\Answered \\Seen NIL"
    assert decode_records(encode_records([record], server=True)) == [record]


@pytest.mark.parametrize(
    "wire", [b"x", b"(%(A b))", b"(%(ENTRY /a USERID b))", b"(%(ENTRY /a\0 USERID b VALUE c))"]
)
def test_bad_annotations_are_bad_parameters(wire: bytes) -> None:
    with pytest.raises(BadParameters):
        decode_annotations(dlist.parse(wire)[0])


@given(record_lists)
def test_a_keyword_nil_is_quoted_and_read_back_either_way(records: list[Record]) -> None:
    """A real server that reads it bare dies of it; a real client sends it bare."""
    records = [record._replace(flags="\\Seen NIL nils") for record in records]
    wire = encode_records(records, server=False)
    quoted = b'FLAGS (\\Seen "NIL" nils)'
    assert wire.count(quoted) == sum(not record.expunged for record in records)
    assert decode_records(wire) == decode_records(wire.replace(quoted, b"FLAGS (\\Seen NIL nils)")) == records
