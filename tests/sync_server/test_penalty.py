"""Who runs against the same wall again and again is answered later and later."""

from __future__ import annotations

from twisted.internet.task import Clock

from cyrus_sync.sync_server.penalty import FORGET_AFTER, LONGEST_DELAY, REMEMBERED, Penalty


def test_the_first_two_identical_failures_are_answered_at_once() -> None:
    penalty = Penalty(Clock().seconds)
    assert [penalty.failed("x") for _ in range(2)] == [0.0, 0.0]


def test_the_next_ones_wait_twice_as_long_each_time_up_to_a_limit() -> None:
    penalty = Penalty(Clock().seconds)
    delays = [penalty.failed("x") for _ in range(10)]
    assert delays[2:5] == [0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY


def test_another_failure_is_counted_apart() -> None:
    penalty = Penalty(Clock().seconds)
    for _ in range(5):
        penalty.failed("x")
    assert penalty.failed("y") == 0.0


def test_a_failure_that_stays_away_is_forgotten() -> None:
    clock = Clock()
    penalty = Penalty(clock.seconds)
    for _ in range(4):
        penalty.failed("x")
    clock.advance(FORGET_AFTER + LONGEST_DELAY + 1)
    assert penalty.failed("x") == 0.0


def test_only_so_many_failures_are_remembered() -> None:
    penalty = Penalty(Clock().seconds)
    for number in range(REMEMBERED + 500):
        penalty.failed(number)
    assert len(penalty) == REMEMBERED
