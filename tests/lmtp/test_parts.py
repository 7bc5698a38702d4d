"""Messages that come by BDAT (RFC 3030), and with other letters than ASCII's (RFC 6531)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.lmtp.header import Envelope

from .kit import HEADER, MESSAGE, Client, Lmtp, code

GOOD, UNKNOWN = "250 2.1.5", "550 5.1.1"


@pytest.fixture
def lmtp(tmp_path: Path) -> Iterator[Lmtp]:
    made = Lmtp(tmp_path, "lmtp_journal: journal")
    yield made
    made.close()


def begin(client: Client, *recipients: bytes) -> None:
    assert client.say(b"MAIL FROM:<joe@example.org>").startswith("250")
    for one in recipients:
        client.say(b"RCPT TO:<" + one + b">")


def part(octets: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


def kept(lmtp: Lmtp, name: str) -> list[bytes]:
    """What stands behind what is put in front of each message."""
    return [HEADER + one.partition(HEADER)[2] for one in lmtp.messages(name)]


def test_a_message_in_parts_is_the_one_that_comes_as_lines(lmtp: Lmtp) -> None:
    client = lmtp.client()
    assert "CHUNKING" in client.offered
    text = b".a\r\n.\r\nQUIT\r\nb\nc"
    begin(client, b"alice", b"nobody", b"bob")
    whole = HEADER + text
    client.send(part(whole[:20]) + part(whole[20:-3]) + part(b"") + part(whole[-3:]) + part(b"", last=True))
    assert [code(one) for one in client.answers(6)] == ["250 2.0.0"] * 4 + [GOOD, GOOD]
    assert client.deliver(whole.replace(b"\nc", b"\nc\r\n"), b"alice") == [GOOD]
    one, other = kept(lmtp, "user.alice")
    assert one == other == HEADER + b".a\r\n.\r\nQUIT\r\nb\r\nc\r\n"
    assert kept(lmtp, "user.bob") == [one]
    assert len(lmtp.messages("journal")) == 2


def test_parts_that_nobody_wants_are_passed_over(lmtp: Lmtp) -> None:
    client = lmtp.client()
    client.send(part(b"RSET\r\n" * 30_000) + part(b"RSET\r\n", last=True))
    assert [code(one) for one in client.answers(2)] == ["503 5.5.1"] * 2
    begin(client, b"nobody")
    client.send(part(MESSAGE, last=True) + b"NOOP\r\n")
    assert [code(one) for one in client.answers(2)] == ["503 5.5.1", "250 2.0.0"]


def test_a_message_begun_in_parts_is_not_gone_on_with_by_other_means(lmtp: Lmtp) -> None:
    client = lmtp.client()
    begin(client, b"alice")
    client.send(part(HEADER) + b"DATA\r\nRCPT TO:<bob>\r\n" + part(b"x\r\n", last=True))
    assert [code(one) for one in client.answers(4)] == ["250 2.0.0", "503 5.5.0", "503 5.5.0", GOOD]
    assert kept(lmtp, "user.alice") == [HEADER + b"x\r\n"]
    begin(client, b"alice")
    client.send(part(HEADER) + b"RSET\r\n" + part(b"x\r\n", last=True))
    assert [code(one) for one in client.answers(3)] == ["250 2.0.0", "250 2.0.0", "503 5.5.1"]
    assert len(lmtp.messages("user.alice")) == 1


def test_a_part_that_cannot_be_taken_ends_the_message(lmtp: Lmtp) -> None:
    client = lmtp.client()
    begin(client, b"alice", b"bob")
    client.send(part(HEADER + b"a\0b\r\n") + part(b"more\r\n") + part(b"end\r\n", last=True) + b"NOOP\r\n")
    assert [code(one) for one in client.answers(4)] == ["554 5.6.0", "503 5.5.1", "503 5.5.1", "250 2.0.0"]
    begin(client, b"alice", b"bob")
    client.send(part(HEADER + b"a\0b\r\n", last=True))
    assert [code(one) for one in client.answers(2)] == ["554 5.6.0"] * 2
    assert lmtp.messages("user.alice") == []


def test_what_is_dropped_of_a_message_counts_for_its_size(tmp_path: Path) -> None:
    lmtp = Lmtp(tmp_path, "maxmessagesize: 2k")
    client = lmtp.client()
    begin(client, b"alice")
    client.send(part(HEADER) + part(b"\r") * 3000 + part(b"x", last=True))
    assert [code(one) for one in client.answers(3002)] == ["250 2.0.0"] * 3001 + ["552 5.2.3"]
    too_large = HEADER + b"\r" * 3000 + b"x\r\n"
    assert client.deliver(too_large, b"alice") == ["552 5.2.3"]
    assert client.deliver(HEADER + b".\r\n" * 500, b"alice") == [GOOD]
    lmtp.close()


@pytest.mark.parametrize("before", [HEADER, b"X: "], ids=["in the body", "in the header"])
def test_what_comes_octet_by_octet_takes_the_room_of_its_octets(tmp_path: Path, before: bytes) -> None:
    lmtp = Lmtp(tmp_path)
    arriving = lmtp.service.arriving(Envelope("joe", ("alice",), "there", "here", "1"))

    async def feed() -> None:
        await arriving.add(before, len(before))
        for number in range(10_000):
            await arriving.add(b"x" if number % 2 else b"", len(before) + number)

    tracemalloc.start()
    try:
        with pytest.raises(StopIteration):  # nothing is waited for in it
            feed().send(None)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20_000
    arriving.close()
    lmtp.close()


def test_where_the_length_of_a_part_is_none_the_conversation_ends(lmtp: Lmtp) -> None:
    client = lmtp.client()
    begin(client, b"alice")
    client.send(b"BDAT many\r\nMAIL FROM:<evil@example.org>\r\n")
    assert [code(one) for one in client.answers(1)] == ["501 5.5.4"]
    assert client.disconnected


def test_who_goes_between_two_parts_leaves_nothing(lmtp: Lmtp) -> None:
    client = lmtp.client()
    begin(client, b"alice")
    client.send(part(HEADER + b"x" * 300_000))
    client.answers(1)
    client.connection.connectionLost()
    assert lmtp.clients.sessions == {}
    assert lmtp.client().deliver(MESSAGE, b"alice") == [GOOD]
    assert len(lmtp.messages("user.alice")) == 1


def test_letters_beyond_ascii_stand_in_addresses_and_headers(lmtp: Lmtp) -> None:
    lmtp.make("user.alice.Entw&APw-rfe", "alice\tlrswip\tanyone\tp\t")
    client = lmtp.client()
    assert "SMTPUTF8" in client.offered
    message = "Subject: Grüße\r\n".encode() + MESSAGE
    sender = "<jö@bücher.example> SMTPUTF8".encode()
    recipients = ["alice+Entwürfe@x".encode(), "ålice".encode()]
    assert client.deliver(message, *recipients, sender=sender) == [UNKNOWN, GOOD]
    (stored,) = lmtp.messages("user.alice.Entw&APw-rfe")
    assert stored.startswith("Return-Path: <jö@bücher.example>\r\n".encode())
    assert b") with UTF8LMTPA id " in stored
    assert stored.endswith(message)
    (entry,) = lmtp.messages("journal")
    assert "X-Envelope-To: <alice+Entwürfe@x>\r\n".encode() in entry
    assert code(client.say(b"MAIL FROM:" + sender.removesuffix(b" SMTPUTF8"))) == "501 5.5.4"


def test_letters_that_would_be_changed_are_not_announced(tmp_path: Path) -> None:
    lmtp = Lmtp(tmp_path, "munge8bit: yes")
    client = lmtp.client()
    assert "SMTPUTF8" not in client.offered
    assert code(client.say("MAIL FROM:<jö@x> SMTPUTF8".encode())) == "501 5.5.4"
    lmtp.close()
