"""No address takes the places of all others by connections that prove nothing."""

from __future__ import annotations

import socket

import pytest

from cyrus_sync.shipping import service
from cyrus_sync.shipping.contact import UDP_WAITS, question
from cyrus_sync.shipping.strangers import (
    MAX_OF_ONE_ADDRESS,
    MAX_STRANGERS,
    QUESTIONS_SECONDS,
    SAID_AGAIN,
    Questions,
    most_strangers,
    neighbourhood,
)
from tests.deadlines import scaled, until
from tests.shipping.conversation import Conversation
from tests.shipping.kit import Host


def idle_from(address: str, hub: Host) -> socket.socket:
    return socket.create_connection((hub.name, hub.port), timeout=5, source_address=(address, 0))


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_many_connections_of_one_address_push_out_none_of_another(
    hosts: tuple[Host, Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    monkeypatch.setattr(service, "HANDSHAKE", 600.0)  # nobody leaves for having said nothing
    hub.start()
    first = idle_from("127.0.0.9", hub)
    many = [idle_from("127.0.0.8", hub) for _ in range(2 * MAX_STRANGERS)]
    try:
        with Conversation(boston, hub) as talk:
            talk.hello()
        until(lambda: sum(map(is_open, many)) <= MAX_OF_ONE_ADDRESS, "the oldest of the many are dismissed")
        assert is_open(first)
    finally:
        for sock in (first, *many):
            sock.close()


@pytest.mark.parametrize(("limit", "most"), [(65536, MAX_STRANGERS), (64, 14), (20, 4)])
def test_strangers_fit_into_the_limit_of_open_files(limit: int, most: int) -> None:
    assert most_strangers(limit, 10) == most


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_network_is_one_address(address: str, one: str) -> None:
    assert neighbourhood(address) == one


def test_one_address_has_its_share_of_answers_to_datagrams_and_has_it_again_later() -> None:
    questions = Questions(most=10)
    asked = [questions.is_answered("192.0.2.1", f"nonce{number}", now=0.0) for number in range(15)]
    assert asked == [True] * 10 + [False] * 5
    assert questions.is_answered("192.0.2.2", "another's", now=0.0)
    assert questions.is_answered("192.0.2.1", "later", now=QUESTIONS_SECONDS / 10)
    assert not questions.is_answered("192.0.2.1", "too soon", now=QUESTIONS_SECONDS / 10)


def test_a_question_that_is_played_back_is_answered_no_more_often_than_its_asker_says_it() -> None:
    questions = Questions(most=100)
    asked = [questions.is_answered("192.0.2.1", "recorded", now=float(second)) for second in range(10)]
    assert asked == [True] * SAID_AGAIN + [False] * (10 - SAID_AGAIN)
    # From wherever it seems to come: the share of that address is left alone.
    asked = [questions.is_answered("192.0.2.7", "recorded", now=10.0) for _ in range(200)]
    assert not any(asked) and questions.is_answered("192.0.2.7", "its own", now=10.0)
    assert len(UDP_WAITS) == SAID_AGAIN


def test_what_is_remembered_of_datagrams_has_a_bound() -> None:
    questions = Questions(most=10, remembered=20)
    for number in range(1000):
        assert questions.is_answered(f"192.0.{number // 250}.{number % 250}", f"nonce{number}", now=0.0)
    assert len(questions._shares) == len(questions._answered) == 20


def test_a_service_answers_a_recorded_datagram_so_often_and_no_more(pair: tuple[Host, Host]) -> None:
    boston, hub = pair
    line = question(boston.site().key, "5" * 32)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((hub.name, hub.port))
        for _ in range(SAID_AGAIN):
            sock.settimeout(scaled(20))
            sock.send(line)
            assert sock.recv(300).startswith(b"SHIP1 PORT")
        sock.send(line)
        fresh = question(boston.site().key, "6" * 32)
        sock.send(fresh)
        assert sock.recv(300).split()[2] == b"6" * 32
