"""Who gets a connection: bounds for an address and for strangers, places that are kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.sync_server.known import read_known, write_known
from cyrus_sync.sync_server.places import KNOWN_SECONDS, Most, Places


class Guest:
    """A connection that notes its dismissal."""

    def __init__(self, address: str) -> None:
        self.origin = address
        self.gone = ""

    def give_way(self, why: str) -> None:
        self.gone = why


class Door:
    """`Places` with the clock of the test; `come` is a new connection, or None where it was refused."""

    def __init__(self, most: Most, **more: Any) -> None:
        self.clock = Clock()
        self.places = Places(most, self.clock.seconds, self.clock.callLater, **more)

    def come(self, address: str, *, login: bool = False) -> Guest | None:
        if self.places.refusal(address):
            return None
        guest = Guest(address)
        self.places.enter(guest)
        if login:
            self.places.logged_in(guest)
        return guest


MOST = Most(connections=20, per_address=6, strangers=10, strangers_per_address=3, kept=4)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.7:40112", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:40112", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]:9", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:9", "fe80::/64"),
        ("unix socket", ""),
    ],
)
def test_an_address_is_counted_as_a_site_has_it(peer: str, address: str) -> None:
    assert origin(peer) == address


def test_one_address_cannot_take_the_places_of_strangers() -> None:
    door = Door(MOST)
    assert [door.come("a") is not None for _ in range(5)] == [True] * 3 + [False] * 2
    assert door.come("b") is not None


@pytest.mark.covers("imapd.conf", "sync_max_per_address")
def test_one_address_has_a_bound_logged_in_or_not() -> None:
    door = Door(MOST)
    assert [door.come("a", login=True) is not None for _ in range(8)] == [True] * 6 + [False] * 2
    assert door.places.refusal("a") == "too many connections from a"


@pytest.mark.covers("imapd.conf", "sync_max_strangers")
def test_all_strangers_together_have_a_bound_and_no_newcomer_ousts_a_fresh_one() -> None:
    door = Door(MOST)
    assert sum(door.come(f"s{n}") is not None for n in range(30)) == MOST.strangers


def test_an_idle_stranger_gives_way_to_a_newcomer_after_ten_seconds() -> None:
    door = Door(MOST)
    guests = [door.come(f"s{n}") for n in range(4)]
    door.clock.advance(30)
    assert not any(guest.gone for guest in guests if guest)
    for n in range(4, 10):
        door.come(f"s{n}")
    door.clock.advance(1)
    assert [bool(guest and guest.gone) for guest in guests] == [True] * 4
    assert door.places.strangers <= 6


def test_while_places_are_short_every_stranger_has_ten_seconds() -> None:
    door = Door(MOST)
    for n in range(10):
        door.come(f"s{n}")
    door.clock.advance(9.9)
    assert door.places.strangers == 10
    door.clock.advance(0.2)
    assert not door.places.short


def test_some_places_are_kept_for_sockets_and_for_addresses_that_are_known() -> None:
    door = Door(MOST)
    admin = door.come("admin", login=True)
    assert admin
    door.places.leave(admin)
    for n in range(40):
        door.come(f"m{n}", login=True)
    assert len(door.places) == MOST.connections - MOST.kept
    assert door.come("new") is None
    assert [door.come(who) is not None for who in ("admin", "", "admin", "")] == [True] * 4


def test_somebody_known_takes_the_place_of_a_stranger_at_once() -> None:
    door = Door(Most(connections=4, per_address=4, strangers=3, strangers_per_address=3, kept=1))
    admin = door.come("admin", login=True)
    assert admin
    strangers = [door.come("s"), door.come("s")]
    assert door.come("admin", login=True) and door.come("admin", login=True)
    assert strangers[0] and strangers[0].gone and strangers[1] and not strangers[1].gone
    assert door.come("", login=True)
    assert strangers[1].gone
    assert door.come("") is None, "only those who have logged in are left"


def test_nobody_known_who_is_just_logging_in_gives_way_to_another() -> None:
    door = Door(Most(connections=4, per_address=4, strangers=3, strangers_per_address=3, kept=1))
    for who in ("admin", "other", "third"):
        door.come(who, login=True)
    assert door.come("admin") and door.come("other") is None
    door.clock.advance(10)
    assert door.come("other")


def test_who_is_known_is_kept_when_he_is_new_and_once_a_day() -> None:
    kept: list[dict[str, float]] = []
    door = Door(MOST, keep=lambda known: kept.append(dict(known)))
    door.clock.advance(1_000_000)
    for _ in range(3):
        door.come("admin", login=True)
    assert kept == [{"admin": 1_000_000.0}]
    door.clock.advance(3600)
    door.come("other", login=True)
    door.come("admin", login=True)
    assert kept[1:] == [{"admin": 1_000_000.0, "other": 1_003_600.0}]
    door.clock.advance(25 * 3600)
    door.come("admin", login=True)
    assert len(kept) == 3
    again = Door(MOST, known=kept[-1])
    again.clock.advance(door.clock.seconds())
    assert again.places.known("admin") and again.places.known("other") and not again.places.known("x")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": "b"}', '{"a": null}'])
def test_a_file_of_known_addresses_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    assert read_known(tmp_path / "nobody") == {}
    (tmp_path / "known").write_text(text)
    assert read_known(tmp_path / "known") == {}
    write_known(tmp_path / "sync" / "known", {"192.0.2.1": 5.0, "192.0.2.0": 3.0})
    assert list(read_known(tmp_path / "sync" / "known").items()) == [("192.0.2.0", 3.0), ("192.0.2.1", 5.0)]


def test_an_address_is_known_for_a_week() -> None:
    door = Door(MOST)
    door.come("admin", login=True)
    assert door.places.known("admin") and not door.places.known("other")
    door.clock.advance(KNOWN_SECONDS)
    assert not door.places.known("admin")
    assert door.places.known("")


def test_everything_is_forgotten_with_the_connection() -> None:
    door = Door(MOST)
    for _ in range(50):
        guest, other = door.come("a"), door.come("b", login=True)
        assert guest and other
        door.places.leave(guest)
        door.places.leave(other)
        door.places.leave(other)
    assert len(door.places) == door.places.strangers == 0
    assert not door.places._of_address and not door.places._strangers_of


def test_a_flood_is_one_line_a_minute_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    door = Door(MOST)
    for _ in range(1000):
        door.places.complain("a", "too many connections from a")
    assert len(caplog.records) == 1
    door.clock.advance(60)
    door.places.complain("a", "too many connections from a")
    assert "and 999 times more" in caplog.messages[-1]


@pytest.mark.parametrize("connections", [1, 2, 3, 8, 30, 224, 7484])
def test_whatever_fits_is_divided_so_that_strangers_never_have_all(connections: int) -> None:
    most = Most.of(connections, 64, 0)
    assert most.kept < connections or connections == 1
    assert 1 <= most.strangers <= connections - most.kept
    assert 1 <= most.strangers_per_address <= most.per_address <= connections
