"""Guessing is slowed by address."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from cyrus_sync.common.wire.guessing import FORGET_AFTER, FREE, LONGEST_PAUSE, REMEMBERED, Guessing


def checked(guessing: Guessing, clock: Clock, seconds: int, connections: int) -> int:
    """How many passwords are looked at in so many seconds when each connection guesses once a second."""
    done = 0
    for _ in range(seconds):
        done += sum(guessing.begin("a") is not None for _ in range(connections))
        clock.advance(1)
    return done


def test_a_few_attempts_are_checked_at_once() -> None:
    guessing = Guessing(3.0, Clock().seconds)
    assert [guessing.begin("a") for _ in range(FREE)] == [0.0] * FREE


def test_then_each_waits_for_the_one_before_or_is_not_looked_at() -> None:
    guessing = Guessing(3.0, Clock().seconds)
    assert [guessing.begin("a") for _ in range(FREE + 4)][FREE:] == [3.0, None, None, None]


@pytest.mark.covers("imapd.conf", "failedloginpause")
def test_a_thousand_connections_guess_no_faster_than_one() -> None:
    clock = Clock()
    one = checked(Guessing(3.0, clock.seconds), clock, 600, 1)
    many = checked(Guessing(3.0, clock.seconds), clock, 600, 1000)
    assert many <= one + 2 <= FREE + 4 + 600 / LONGEST_PAUSE


def test_other_addresses_and_sockets_do_not_wait() -> None:
    guessing = Guessing(3.0, Clock().seconds)
    for _ in range(50):
        guessing.begin("a")
    assert guessing.begin("b") == guessing.begin("") == 0.0


def test_who_stays_away_is_forgotten_and_who_logged_in_is_forgiven() -> None:
    clock = Clock()
    guessing = Guessing(3.0, clock.seconds)
    for _ in range(50):
        guessing.begin("a")
    clock.advance(FORGET_AFTER + LONGEST_PAUSE + 1)
    assert guessing.begin("a") == 0.0
    for _ in range(50):
        guessing.begin("a")
    guessing.forgive("a")
    assert guessing.begin("a") == 0.0


def test_a_cancelled_attempt_does_not_count() -> None:
    guessing = Guessing(3.0, Clock().seconds)
    for _ in range(50):
        assert guessing.begin("a") == 0.0
        guessing.withdrawn("a")


def test_without_failedloginpause_nobody_is_slowed() -> None:
    guessing = Guessing(0.0, Clock().seconds)
    assert {guessing.begin("a") for _ in range(100)} == {0.0}


def test_only_so_many_addresses_are_remembered() -> None:
    guessing = Guessing(3.0, Clock().seconds)
    for n in range(REMEMBERED + 10):
        guessing.begin(str(n))
    assert len(guessing) == REMEMBERED
