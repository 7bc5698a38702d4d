"""Nobody without the key puts anything into a bay, and nobody with it gets a file out of the bay."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.shipping import contact
from cyrus_sync.shipping.errors import Refused, ShippingError
from cyrus_sync.shipping.greeting import Proofs
from cyrus_sync.shipping.key import load_key, make_key
from cyrus_sync.shipping.strangers import MAX_STRANGERS
from cyrus_sync.shipping.transfer import LONGEST_HEADER, send_file
from tests.deadlines import until
from tests.ports import free_port
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import KEY, Host, unfinished, wait_until

Pair = tuple[Host, Host]


@pytest.fixture
def attacked(pair: Pair) -> Iterator[Pair]:
    """Whatever the test does: nothing has come in, nothing is left over, the next file arrives."""
    boston, hub = pair
    yield pair
    wait_until(lambda: not unfinished(hub))
    assert hub.incoming() == {} and hub.outgoing() == []
    boston.packet("honest", b"honest", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"honest": b"honest"}
    outside = {path.name for path in hub.root.iterdir()}
    assert outside <= {"shipping", "log", "key", "notify", "imapd.conf", "shipping.conf", "mails"}


def test_a_host_with_another_key_is_told_so_by_tcp_alone_and_the_log_says_who_it_was(
    attacked: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = attacked
    monkeypatch.setattr(contact, "UDP_WAITS", (0.1,))
    stranger = Host(boston.root.parent / "stranger", "127.0.0.4", hub.port, key="6b" * 32)
    with pytest.raises(TimeoutError):
        contact._ask_udp(hub.name, hub.port, contact.question(b"k" * 32, "5" * 32))
    refused = r"refused: the family key is not ours \(multisite_key_file"
    with pytest.raises(Refused, match=refused):
        contact.meet(stranger.site(), hub.name)
    stranger.configure("CLEARCASE_MIN_PORT 20000", "CLEARCASE_MAX_PORT 20010")
    with pytest.raises(Refused, match=refused):
        contact.meet(stranger.site(), hub.name)
    assert hub.log().count("asks to send a file, and does not have our family key") == 1


def test_a_sender_with_another_key_is_turned_away(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub, key="6b" * 32) as talk:
        talk.hello()
        assert not talk.proofs.hold(talk.challenge, "server", talk.layer.encode())
        talk.announce(header_for(hub, b"x"))
        assert talk.line() == "NO the family key is not ours"
    assert "does not have our family key" in hub.log()


def test_a_sender_tells_nothing_to_a_receiver_with_another_key(attacked: Pair) -> None:
    boston, hub = attacked
    with socket.create_server((hub.name, 0)) as listener:
        port = listener.getsockname()[1]

        pid = os.fork()
        if not pid:
            connection, _ = listener.accept()
            words = connection.recv(200).decode().split()
            shown = Proofs(b"wrong" * 8, words[2], "5" * 64).make("server", b"sealed")
            connection.sendall(f"SHIP2 CHALLENGE {'5' * 64} sealed {shown}\n".encode())
            os._exit(1 if connection.recv(1) else 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cyrus_sync.shipping.transfer.meet", lambda *_: contact.Meeting((hub.name, port)))
            with pytest.raises(Refused, match="does not have our family key; nothing was sent"):
                send_file(boston.site(), hub.name, header_for(hub, b"x"), 0)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_recorded_conversation_is_worth_nothing(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", size=1))
        recorded = talk.sent
    with Conversation(boston, hub) as replay:
        replay.send(recorded)
        assert replay.word() == "SHIP2"
        assert replay.word() in ("NO", "")


def test_a_header_that_was_changed_on_the_way_is_not_taken(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        encoded = header_for(hub, b"x").encode()
        talk.announce(encoded.replace(b"packet", b"racket", 1), talk.proofs.make("header", encoded))
        assert talk.word() == "NO"


def test_a_proof_for_one_step_does_not_serve_for_another(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        # The receiver's own proof, played back to it.
        talk.send(f"SHIP2 PROOF {talk.challenge}\n".encode())
        assert talk.word() == "NO"


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/etc/cron.d/evil", "..", ".", "", "a/../../evil", ".ms_tmp_x", "sh_o_evil", "x\0y",
     "x\ny", "e" * 300],
)  # fmt: skip
def test_no_name_leaves_the_bay(attacked: Pair, name: str) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", name))
        found = talk.word()
    if name.startswith("/") or "/../" in name or name.startswith("../"):
        # Only the last part of a path counts, as for every order.
        assert found == "GO"
    else:
        assert found == "NO"


@pytest.mark.parametrize("storage_class", ["../../../up", "/etc", "-default/../x", "a\nb"])
def test_a_class_is_looked_up_and_never_part_of_a_path(attacked: Pair, storage_class: str) -> None:
    boston, hub = attacked
    header = header_for(hub, b"x")
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(replace(header, order=replace(header.order, storage_class=storage_class)))
        assert talk.word() == "GO"  # the default class; the transfer is broken off here


def test_a_body_that_ends_too_early_leaves_nothing(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"0123456789" * 1000))
        assert talk.word() == "GO"
        talk.send(b"0123456789" * 999)
        talk.sock.shutdown(socket.SHUT_WR)
        assert "ended 10 bytes too early" in talk.line()


def test_a_body_with_other_content_leaves_nothing(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"what was announced"))
        assert talk.word() == "GO"
        talk.send(b"what was Announced")
        assert "is not what was announced (blake3)" in talk.line()
    assert "(blake3)" in hub.log()


def test_what_follows_the_body_is_not_taken(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"body"))
        assert talk.word() == "GO"
        talk.send(b"body and more" + b"x" * 100_000)
        assert talk.word() == "DONE"
    assert hub.incoming() == {"packet": b"body"}


@pytest.mark.parametrize("size", [1 << 61, -1, "1", 1.5, None, True, 1 << 70])
def test_a_size_that_cannot_be_is_refused_before_the_body(attacked: Pair, size: object) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", size=size))
        assert talk.word() == "NO"


def test_a_file_for_another_host_cannot_be_relayed_to_this_one(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x", to="bangalore"))
        assert "not bangalore" in talk.line()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"order": 1}',
        json.dumps({"order": "x"}).encode(),
    ],
)
def test_a_proved_header_of_nonsense_is_refused(attacked: Pair, header: bytes) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header)
        assert talk.word() == "NO"


@pytest.mark.parametrize(
    "line",
    [
        b"SHIP2 PROOF\n",
        b"SHIP2 PROOF " + b"0" * 64 + b" more\n",
        b"SHIP1 HEADER 1 " + b"0" * 64 + b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 10_000,
        b"x" * 10_000 + b"\n",
    ],
)
def test_a_bad_line_after_the_greeting_closes_the_connection(attacked: Pair, line: bytes) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.send(line)
        assert talk.line() == ""


@pytest.mark.parametrize(
    "line",
    [
        b"HEADER 99999999999 " + b"0" * 64 + b"\n",
        f"HEADER {LONGEST_HEADER + 1} {'0' * 64}\n".encode(),
        b"HEADER -1 " + b"0" * 64 + b"\n",
        b"HEADER x y\n",
        b"x" * 10_000,
    ],
)
def test_a_bad_line_of_one_with_the_key_is_refused(attacked: Pair, line: bytes) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(b"")
        talk.say_instead(line)
        assert talk.word() == "NO"


def test_garbage_on_every_port_changes_nothing(attacked: Pair) -> None:
    boston, hub = attacked
    chance = random.Random(7)
    with Conversation(boston, hub) as talk:
        port = talk.port
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for _ in range(200):
            sock.sendto(chance.randbytes(chance.randrange(1, 400)), (hub.name, hub.port))
    for number in range(100):
        sock = socket.create_connection((hub.name, (hub.port, port)[number % 2]))
        with sock, contextlib.suppress(OSError):
            sock.sendall(chance.randbytes(chance.randrange(1, 4000)))


def test_a_thousand_idle_connections_keep_nobody_out(attacked: Pair) -> None:
    boston, hub = attacked
    with Conversation(boston, hub) as talk:
        port = talk.port
    idle = []
    try:
        for number in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((hub.name, (port, hub.port)[number % 2]))
            idle.append(sock)
        boston.packet("meanwhile", b"m", hub.name)
        assert boston.shipping_server("-poll") == 0
        assert hub.incoming() == {"meanwhile": b"m"}
        open_files = Path(f"/proc/{hub.pid}/fd")
        until(
            lambda: len(list(open_files.iterdir())) < MAX_STRANGERS + 50,
            "the oldest strangers are shown the door",
        )
    finally:
        for sock in idle:
            sock.close()
    (hub.bay / "incoming/meanwhile").unlink()


def test_a_receiver_that_acknowledges_without_proof_is_not_believed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    real = Proofs.make

    def lying(proofs: Proofs, label: str, said: bytes = b"") -> str:
        return "0" * 64 if label == "done" else real(proofs, label, said)

    hub.stop()
    with monkeypatch.context() as patch:
        patch.setattr(Proofs, "make", lying)
        hub.start()
    assert boston.shipping_server(order) == 1
    assert "carries no valid proof" in boston.log()
    assert boston.outgoing() == ["one", "sh_o_one"]


def test_the_key_file_must_not_be_open_to_others(tmp_path: Path) -> None:
    make_key(tmp_path / "multisite/key")
    assert len(load_key(tmp_path / "multisite/key")) == 32
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "multisite/key")
    (tmp_path / "multisite/key").chmod(0o644)
    with pytest.raises(ShippingError, match="mode 0644 opens the family key to others"):
        load_key(tmp_path / "multisite/key")
    (tmp_path / "short").write_text(KEY[:-1])
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(ShippingError, match="is not a family key"):
        load_key(tmp_path / "short")


def test_without_a_key_nothing_is_sent_and_nobody_listens(
    pair: Pair, capfd: pytest.CaptureFixture[str]
) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    (boston.root / "key").unlink()
    assert boston.shipping_server(order) == 1
    assert "the family key cannot be read" in capfd.readouterr().err
    assert boston.shipping_server("-receiver") == 1
    assert boston.shipping_server("-makekey") == 0
    assert len(load_key(boston.root / "key")) == 32
    assert free_port() != hub.port


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about what root can be made to do")
@pytest.mark.parametrize("link", ["hard", "soft"])
def test_root_ships_no_file_that_an_orders_owner_has_only_linked_to(pair: Pair, link: str) -> None:
    boston, hub = pair
    secret = boston.root / "secret"
    secret.write_bytes(b"secret")
    order = boston.packet("one", b"secret", hub.name)
    os.chown(order, 12345, -1)
    data = boston.bay / "outgoing/one"
    data.unlink()
    if link == "hard":
        os.link(secret, data)
    else:
        data.symlink_to(secret)
    assert boston.shipping_server("-poll") == 1
    assert hub.incoming() == {} and secret.exists()


def test_a_pipe_that_is_named_as_an_order_is_none_and_stops_nothing(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    os.mkfifo(order.with_name("sh_o_pipe"))
    assert boston.shipping_server("-poll") == 1
    assert "sh_o_pipe: not a plain file" in boston.log()
    assert hub.incoming() == {"one": b"1"}
