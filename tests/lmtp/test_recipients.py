"""Whose mailbox an address means; how MAIL and RCPT are read."""

from __future__ import annotations

import pytest

from cyrus_sync.common.names import BadName
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.lmtp.answers import Refused
from cyrus_sync.lmtp.commands import Mail, Rcpt, part_of
from cyrus_sync.lmtp.recipients import Addresses

PLAIN = Addresses(Namespace(virtdomains=False))
DOMAINS = Addresses(Namespace(), virtdomains=True, defaultdomain="internal")


@pytest.mark.covers("imapd.conf", "lmtp_downcase_rcpt")
@pytest.mark.parametrize(
    ("addresses", "address", "mailbox"),
    [
        (PLAIN, "alice", "user.alice"),
        (PLAIN, "alice@anywhere", "user.alice"),
        (PLAIN, "Alice+Work", "user.alice.Work"),
        (PLAIN, "alice+Work/2026.a@x", "user.alice.Work.2026^a"),
        (PLAIN, "alice+", "user.alice"),
        (PLAIN, "alice+a/", "user.alice"),
        (PLAIN, "zoe.b", "user.zoe^b"),
        (PLAIN, "+projects/2026@x", "projects.2026"),
        (DOMAINS, "alice@example.org", "example.org!user.alice"),
        (DOMAINS, "ALICE+Work@Example.ORG", "example.org!user.alice.Work"),
        (DOMAINS, "alice@internal", "user.alice"),
        (DOMAINS, "+projects@example.org", "example.org!projects"),
        (Addresses(Namespace(slashes=False, virtdomains=False)), "alice+Work.a", "user.alice.Work.a"),
        (Addresses(Namespace(virtdomains=False), downcase=False), "Alice", "user.Alice"),
        (Addresses(Namespace(virtdomains=False), postuser="bb"), "bb+projects", "projects"),
        (Addresses(Namespace(virtdomains=False), postuser="bb"), "bb+Projects", "Projects"),
        (PLAIN, "alice+Entw\u00fcrfe/2026", "user.alice.Entw&APw-rfe.2026"),
        (PLAIN, "alice+Entwu\u0308rfe", "user.alice.Entw&APw-rfe"),
        (DOMAINS, "alice@B\u00dccher.example", "xn--bcher-kva.example!user.alice"),
    ],
)
def test_an_address_means_the_mailbox_that_it_means_to_cyrus(
    addresses: Addresses, address: str, mailbox: str
) -> None:
    assert addresses.recipient(address).mailbox == mailbox


@pytest.mark.parametrize(
    "address",
    ["alic\xe9", "alice@\u2024", "", "@x", "+", "+user/alice", "a/b", "alice!bob", "+a//b", "a" * 600],
)
def test_an_address_that_can_be_nobodys_is_refused(address: str) -> None:
    with pytest.raises(BadName):
        PLAIN.recipient(address)


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (b"TO:<alice@example.org>", "alice@example.org"),
        (b"to:<@a.example,@b.example:alice@example.org>", "alice@example.org"),
        (b'TO:<"joe \\"smith\\""@example.org>', 'joe "smith"@example.org'),
        (b"TO:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
    ],
)
def test_a_recipient_is_read_without_what_quotes_him(arguments: bytes, address: str) -> None:
    assert Rcpt.read(arguments).address == address


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (b"TO:alice", "5.5.4"),
        (b"TO: <alice>", "5.5.4"),
        (b"TO:<al ice>", "5.5.4"),
        (b"TO:<alice", "5.5.4"),
        (b"TO:<alic\xe9>", "5.5.4"),
        (b'TO:<"alic\xe9">', "5.5.4"),
        (b"TO:<alice> NOTIFY=NEVER", "5.5.4"),
        (b"TO:<" + b"@a," * 7000, "5.5.4"),
        (b'TO:<"' + b"\\a" * 10000, "5.5.4"),
    ],
)
def test_what_is_no_recipient_is_refused(arguments: bytes, status: str) -> None:
    with pytest.raises(Refused) as refused:
        Rcpt.read(arguments)
    assert (refused.value.answer.code, refused.value.answer.status) == (501, status)


@pytest.mark.covers("imapd.conf", "lmtp_strict_rfc2821")
def test_octets_that_an_address_cannot_have_may_each_be_an_x() -> None:
    assert Rcpt.read(b"TO:<alic\xe9@example.org>", lenient=True).address == "alicX@example.org"


def test_what_is_said_of_a_message_is_understood() -> None:
    mail = Mail.read(b"FROM:<joe@example.org> SIZE=100 BODY=8BITMIME AUTH=joe+40example.org", 1000)
    assert mail == Mail("joe@example.org", 100, "joe@example.org")
    for said in (b"SIZE=", b"SIZE=9999", b"BODY=BINARYMIME", b"SMTPUTF8=1", b""):
        with pytest.raises(Refused):
            Mail.read(b"FROM:<joe@example.org> " + said, 1000)


def test_other_letters_than_asciis_are_taken_where_they_are_announced() -> None:
    said = "FROM:<j\u00f6@b\u00fccher.example> SMTPUTF8 BODY=8BITMIME".encode()
    assert Mail.read(said, 0) == Mail("j\u00f6@b\u00fccher.example", utf8=True)
    assert Rcpt.read("TO:<a+\u00fc@x>".encode(), utf8=True).address == "a+\u00fc@x"
    for wrong in (said.replace(b" SMTPUTF8", b""), b"FROM:<j\xf6@x> SMTPUTF8", b'FROM:<"\xf6 SMTPUTF8 "@x>'):
        with pytest.raises(Refused):
            Mail.read(wrong, 0)
    with pytest.raises(Refused):
        Mail.read(said, 0, utf8=False)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        *((b"100", (100, False)), (b"0 LAST", (0, True)), (b"7 last", (7, True))),
        *((said, None) for said in (b"", b"-1", b"1 FIRST", b"1  LAST", b"9" * 40)),
    ],
)
def test_a_part_of_a_message_has_a_length(said: bytes, part: tuple[int, bool] | None) -> None:
    if part is not None:
        assert part_of(said) == part
    else:
        with pytest.raises(Refused):
            part_of(said)
