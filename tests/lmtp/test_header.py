"""What a message is given on its way in, and what keeps it out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cyrus_sync.lmtp.answers import Refused
from cyrus_sync.lmtp.header import Envelope, Header, Rules, arranged, end_of_header

ENVELOPE = Envelope("joe@example.org", ("alice",), "there.example", "[192.0.2.1]", "a1b2", "LMTPS")
RULES = Rules("here.example", "cyrus-sync")
FRONT = (
    b"Return-Path: <joe@example.org>\r\n"
    b"Received: from there.example ([192.0.2.1])\r\n"
    b"\tby here.example (cyrus-sync) with LMTPS id a1b2;\r\n"
    b"\tMon, 30 Nov 2026 10:00:00 +0000\r\n"
)
IDENTITY = b"Message-ID: <1@x>\r\nDate: yesterday\r\n"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def arrange(raw: bytes, envelope: Envelope = ENVELOPE, rules: Rules = RULES) -> Header:
    return arranged(raw, envelope, rules, 1_796_032_800)


def test_the_path_and_the_way_here_stand_in_front() -> None:
    assert arrange(IDENTITY) == Header(FRONT + IDENTITY, "<1@x>", "yesterday")


def test_identities_that_differ_beyond_ascii_are_two() -> None:
    one, two = (arrange(f"Message-ID: <1\t{letter}@x>\r\n".encode()) for letter in "\u00e0\u00c5")
    assert one.message_id != two.message_id and len(one.message_id) == len("<1 xx@x>")


def test_a_return_path_of_the_senders_own_is_taken_out() -> None:
    raw = b"Return-Path: <evil@x>\r\n" + IDENTITY + b"return-path : <e>\r\n folded\r\nReturn-PathX: 3\r\n"
    assert arrange(raw).octets == FRONT + IDENTITY + b"Return-PathX: 3\r\n"


def test_a_message_without_identity_or_date_gets_them() -> None:
    made = arrange(b"From: joe\r\n")
    assert made.octets == (
        FRONT
        + b"From: joe\r\nMessage-ID: <cyrus-sync-lmtp-a1b2@here.example>\r\n"
        + b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
    )
    assert arrange(b"").message_id == made.message_id


def test_a_sender_without_a_domain_is_one_of_ours() -> None:
    made = arrange(IDENTITY, replace(ENVELOPE, sender="joe"))
    assert made.octets.startswith(b"Return-Path: <joe@here.example>\r\n")
    assert arrange(IDENTITY, replace(ENVELOPE, sender="")).octets.startswith(b"Return-Path: <>\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"hello world\r\n",
        b" folded\r\nFrom: x\r\n",
        b"From joe Mon Nov 30\r\nFrom: x\r\n",
        b"Message-ID:\r\nFrom: x\r\n",
        b"From: x\r\nMessage-ID: \r\n\t\r\n",
        b": x\r\n",
        b"Fr\xe9m: x\r\n",
    ],
)
def test_what_is_no_header_keeps_a_message_out(raw: bytes) -> None:
    with pytest.raises(Refused) as refused:
        arrange(raw)
    assert (refused.value.answer.code, refused.value.answer.status) == (554, "5.6.0")


@pytest.mark.covers("imapd.conf", "reject8bit")
def test_8_bit_octets_in_a_header_are_kept_or_changed_or_refused() -> None:
    raw = IDENTITY + b"Subject: \xc3\xa9\r\n"
    assert arrange(raw).octets.endswith(b"Subject: \xc3\xa9\r\n")
    assert arrange(raw, rules=replace(RULES, munge_8bit=True)).octets.endswith(b"Subject: XX\r\n")
    with pytest.raises(Refused):
        arrange(raw, rules=replace(RULES, reject_8bit=True))


def test_the_end_of_a_header_is_found_however_it_comes() -> None:
    message = b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n"
    for cut in range(len(message)):
        found = end_of_header(message[:cut])
        assert found == (12 if cut >= 14 else -1)
        if found < 0:
            assert end_of_header(message, cut) == 12
    assert end_of_header(b"\r\nbody") == 0


def test_a_header_of_a_megabyte_is_read_at_once() -> None:
    assert len(arrange(IDENTITY + b"X: y\r\n z\r\n" * 100_000).octets) > 1_000_000
