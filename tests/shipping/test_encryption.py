"""What two hosts say to one another is read and changed by nobody else, and fits no other connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.shipping import contact
from cyrus_sync.shipping.cli import main
from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.sealing import RECORD, KeyPair, Opener, Sealer
from tests.common.wire.kit import Issued, issue
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, contents
from tests.shipping.listener import Change, relay

Pair = tuple[Host, Host]
SECRET = b"nobody else's business " * 10_000


@pytest.fixture
def on_the_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Have somebody stand between the sender and the transfer port of a host; what he hears."""
    lines = []

    def stand_between(sender: Host, receiver: Host, change: Change = bytes) -> bytearray:
        port = contact.meet(sender.site(), receiver.name).address[1]
        line = relay(receiver, port, change)
        where, heard = line.__enter__()
        lines.append(line)

        meeting = contact.Meeting((where.name, where.port))
        monkeypatch.setattr("cyrus_sync.shipping.transfer.meet", lambda *_: meeting)
        return heard

    yield stand_between
    for line in lines:
        line.__exit__(None, None, None)


@pytest.fixture
def ca(tmp_path: Path) -> Issued:
    return issue(tmp_path, "ca", ca=True)


def with_certificate(host: Host, ca: Issued, *options: str, name: str = "") -> None:
    made = issue(host.root, "cert", ca, hosts=(name or host.name,))
    host.configure(options=[f"tls_server_cert: {made.cert}", f"tls_server_key: {made.key}", *options])


# -- sealed with the family key


def test_whoever_listens_reads_neither_file_nor_order(pair: Pair, on_the_line) -> None:  # type: ignore[no-untyped-def]
    boston, hub = pair
    heard = on_the_line(boston, hub)
    boston.packet("packet-name", SECRET, hub.name, arguments=["-comment", "a secret comment"])
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"packet-name": SECRET}
    assert len(heard) > len(SECRET) and b"CHALLENGE" in heard and b" sealed " in heard
    for said in (b"nobody else", b"packet-name", b"comment", b"HEADER", b"DONE"):
        assert said not in heard


def test_what_was_changed_on_the_way_is_not_taken(pair: Pair, on_the_line) -> None:  # type: ignore[no-untyped-def]
    boston, hub = pair
    passed = 0

    def change(data: bytes) -> bytes:
        nonlocal passed
        passed += len(data)
        return bytes([*data[:-1], data[-1] ^ 1]) if passed > 100_000 else data

    on_the_line(boston, hub, change)
    boston.packet("one", SECRET, hub.name)
    assert boston.shipping_server("-poll") == 1
    assert contents(hub.bay / "incoming") == {}
    assert boston.outgoing() == ["one", "sh_o_one"]


def test_a_recorded_transfer_cannot_be_played_back(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"body"))
        assert talk.word() == "GO"
        talk.send(b"body")
        assert talk.word() == "DONE"
        recorded = talk.sent
    (hub.bay / "incoming/packet").unlink()
    for ledger in (hub.home / "received").iterdir():
        ledger.unlink()  # as if it had never come
    with Conversation(boston, hub) as replay:
        replay.send(recorded)
        assert replay.line().startswith("SHIP2 CHALLENGE")
        assert replay.word() in ("NO", "")
    assert hub.incoming() == {}


def test_two_connections_have_no_key_in_common() -> None:
    family = b"k" * 32
    here, there, later = KeyPair(), KeyPair(), KeyPair()
    keys = here.keys(family, here.public, there.public)
    assert keys == there.keys(family, here.public, there.public)
    assert keys[0] != keys[1]
    others = (here.keys(family, here.public, later.public), here.keys(b"l" * 32, here.public, there.public))
    assert not set(keys) & {key for pair in others for key in pair}


@pytest.mark.parametrize("spoil", ["changed", "left out", "twice", "swapped", "another key", "too long"])
def test_records_that_are_not_as_they_were_sealed_do_not_open(spoil: str) -> None:
    sealer = Sealer(b"k" * 32)
    one, two = sealer.seal(b"one"), sealer.seal(b"two")
    opener = Opener(b"l" * 32 if spoil == "another key" else b"k" * 32)
    wire = {
        "changed": one[:-1] + bytes([one[-1] ^ 1]),
        "left out": two,
        "twice": one + one,
        "swapped": two + one,
        "another key": one,
        "too long": (RECORD + 33).to_bytes(4, "big"),
    }[spoil]
    with pytest.raises(Refused):
        list(opener.feed(wire))


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD])
@pytest.mark.parametrize("cut", [1000, RECORD, 1 << 20])
def test_whatever_is_sealed_opens_however_it_is_cut(size: int, cut: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    wire = Sealer(b"k" * 32).seal(data)
    opener = Opener(b"k" * 32)
    assert b"".join(b"".join(opener.feed(wire[at : at + cut])) for at in range(0, len(wire), cut)) == data


@pytest.mark.parametrize("shown", ["00" * 32, "01" + "00" * 31, "zz" * 32, "ab", "é" * 64])
def test_what_is_no_key_is_refused(shown: str) -> None:
    here = KeyPair()
    with pytest.raises(Refused, match="no key"):
        here.keys(b"k" * 32, here.public, shown)


def test_a_sender_of_an_older_release_is_turned_away_and_named(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.send(b"SHIP1 HELLO " + b"0" * 64 + b"\n")
        assert talk.line() == ""
    assert "is of an older release, which does not encrypt" in hub.log()


def test_a_receiver_of_an_older_release_gets_nothing(pair: Pair, on_the_line) -> None:  # type: ignore[no-untyped-def]
    boston, hub = pair
    with socket.create_server((hub.name, 0)) as older:
        boston.packet("one", b"1", hub.name)
        on_the_line(boston, hub)
        older.close()
    heard = on_the_line(boston, hub, lambda data: data.replace(b"SHIP2", b"SHIP9"))
    assert boston.shipping_server("-poll") == 1
    assert "an older release there does not encrypt" in boston.log()
    assert b"HEADER" not in heard


def test_a_connection_that_breaks_off_before_both_are_known_is_made_anew(pair: Pair, on_the_line) -> None:  # type: ignore[no-untyped-def]
    boston, hub = pair
    hellos = []

    def spoil_two(data: bytes) -> bytes:
        if b" HELLO " in data:
            hellos.append(data)
            if len(hellos) <= 2:
                return data.replace(b"SHIP2", b"SHIP9")
        return data

    boston.packet("one", b"1", hub.name)
    on_the_line(boston, hub, spoil_two)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"} and len(hellos) == 3


# -- TLS


def test_with_a_certificate_there_is_tls(hosts: tuple[Host, ...], ca: Issued, on_the_line) -> None:  # type: ignore[no-untyped-def]
    boston, hub, _ = hosts
    with_certificate(hub, ca)
    boston.configure(options=[f"tls_server_ca_file: {ca.cert}"])
    hub.start()
    boston.packet("packet-name", SECRET, hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"packet-name": SECRET}
    heard = on_the_line(boston, hub)
    boston.configure()
    boston.packet("again", SECRET, hub.name)
    assert boston.shipping_server("-poll") == 0
    assert b" tls " in heard and b"nobody else" not in heard and b"again" not in heard


def test_a_certificate_of_somebody_else_is_refused_where_somebody_says_whose_count(
    hosts: tuple[Host, ...], ca: Issued
) -> None:
    boston, hub, _ = hosts
    with_certificate(hub, ca, name="other.example.org")
    boston.configure(options=[f"tls_server_ca_file: {ca.cert}"])
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 1
    assert "the certificate is not for 127.0.0.2 but for other.example.org" in boston.log()
    boston.configure(options=[f"tls_server_ca_file: {ca.cert}", "sync_tls_verify: no"])
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


def test_whoever_ends_tls_in_between_is_not_believed(
    hosts: tuple[Host, ...], ca: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He can have the two greet one another, and a certificate that nobody looks at. Each end has TLS with
    him then, and the two know other keys."""
    boston, hub, _ = hosts
    with_certificate(hub, ca)
    hub.start()
    boston.packet("one", b"1", hub.name)
    monkeypatch.setattr("cyrus_sync.shipping.talk.Talk.exported", lambda *_: b"his")
    assert boston.shipping_server("-poll") == 1
    assert "was not proved" in boston.log() and hub.incoming() == {}


def test_a_receiver_does_not_start_with_certificates_that_cannot_be_used(
    hosts: tuple[Host, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    hub = hosts[1]
    hub.configure(options=["tls_server_cert: /nowhere/cert.pem"])
    assert main(["-C", str(hub.config_file), "-receiver"]) == 78
    assert "tls_server_cert: /nowhere/cert.pem" in capfd.readouterr().err
