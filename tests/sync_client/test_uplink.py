"""One connection at a time: made, kept alive, given up, closed, and what is remembered of it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.sync_client.facts import Facts
from cyrus_sync.sync_client.uplink import Uplink
from tests.sync_client.fakes import FakeConnector, refused


class Held:
    """An uplink, its clock, and everything that happened, in order."""

    def __init__(self, *attempts: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.events: list[Any] = []
        self.answers: dict[str, Any] = {}
        self.facts = Facts()
        self.connector = FakeConnector(self.events, self.answers, *attempts)
        self.uplink = Uplink(
            self.clock, self.connector, self.facts, lambda error: self.events.append(f"lost: {error}")
        )

    def connect(self) -> None:
        self.uplink.connect(
            lambda: self.events.append("connected"), lambda error: self.events.append(f"failed: {error}")
        )


@pytest.fixture
def held() -> Held:
    """Connected."""
    made = Held()
    made.connect()
    return made


def test_a_connection_that_is_made_is_told_and_shown(held: Held) -> None:
    assert held.events == ["connect", "connected"]
    assert held.facts.connected == 1000
    assert held.uplink.connection is held.connector.connection


def test_an_attempt_that_fails_is_told_with_its_reason() -> None:
    held = Held(refused())
    held.connect()
    assert held.events == ["connect", "failed: Connection refused"]
    assert held.facts.last_error == "Connection refused"
    assert held.uplink.connection is None


def test_an_attempt_that_is_given_up_tells_nothing() -> None:
    held = Held(attempt := Deferred())
    held.connect()
    held.uplink.give_up()
    assert attempt.called, "it was cancelled"
    assert held.events == ["connect"]
    assert held.facts.last_error == ""


def test_a_connection_that_comes_after_all_is_closed() -> None:
    held = Held(attempt := Deferred(lambda made: made.callback(held.connector.make())))
    held.connect()
    held.uplink.give_up()
    assert attempt.called
    assert held.events == ["connect", "close"]
    assert held.uplink.connection is None


def test_a_lost_connection_is_told_once_and_only_while_it_is_the_present_one(held: Held) -> None:
    first = held.connector.connection
    first.lose(ConnectionLost("cut"))
    assert (held.events[2:], str(held.uplink.error)) == (["lost: cut"], "cut")
    held.uplink.close()
    held.connect()
    assert held.uplink.error is None
    first.lose(ConnectionLost("late"))
    assert "lost: late" not in held.events


def test_a_quiet_connection_is_kept_alive_and_proves_itself(held: Held) -> None:
    held.clock.advance(99)
    held.uplink.keep_alive(100)
    assert "noop" not in held.events
    held.clock.advance(1)
    held.uplink.keep_alive(100)
    assert (held.events.count("noop"), held.uplink.proved) == (1, True)
    held.clock.advance(60)
    held.uplink.used()
    held.clock.advance(60)
    held.uplink.keep_alive(100)
    assert held.events.count("noop") == 1, "a run was there between"


def test_one_noop_at_a_time(held: Held) -> None:
    held.answers["noop"] = Deferred()
    for _ in range(3):
        held.clock.advance(200)
        held.uplink.keep_alive(100)
    assert held.events.count("noop") == 1


def test_a_noop_that_fails_is_a_lost_connection(held: Held) -> None:
    held.answers["noop"] = ConnectionLost("silent")
    held.clock.advance(200)
    held.uplink.keep_alive(100)
    assert held.events[2:] == ["noop", "lost: silent"]


def test_age_counts_from_the_connecting_and_0_is_never(held: Held) -> None:
    held.clock.advance(600)
    assert held.uplink.is_older_than(600)
    assert not held.uplink.is_older_than(601)
    assert not held.uplink.is_older_than(0)
    held.uplink.close()
    assert not held.uplink.is_older_than(1)


def test_closing_may_tell_the_server_to_forget_and_is_done_once(held: Held) -> None:
    held.uplink.close(restart=True)
    held.uplink.close()
    assert held.events[2:] == ["restart", "close"]
    assert held.facts.connected is None
    held.connector.connection.lose()
    assert held.uplink.error is None, "we have closed it ourselves"
