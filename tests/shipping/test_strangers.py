"""No address takes the places of all others by connections that prove nothing."""

from __future__ import annotations

import socket

import pytest

from cyrus_sync.shipping import service
from cyrus_sync.shipping.strangers import (
    MAX_OF_ONE_ADDRESS,
    MAX_STRANGERS,
    most_strangers,
    neighbourhood,
)
from tests.deadlines import until
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
