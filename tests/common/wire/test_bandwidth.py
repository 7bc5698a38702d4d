"""How fast a client may send: what the option says, and octets that wait for their turn."""

from __future__ import annotations

import doctest
import time

import pytest
from twisted.internet.task import Clock

from cyrus_sync.common.wire import bandwidth
from cyrus_sync.common.wire.bandwidth import Bandwidth, Limiter


def at(hour: int, minute: int = 0) -> time.struct_time:
    return time.struct_time((2026, 11, 30, hour, minute, 0, 0, 334, 0))


def test_the_examples_are_true() -> None:
    assert doctest.testmod(bandwidth).failed == 0


def test_the_first_time_of_the_day_that_fits_counts_also_across_midnight() -> None:
    limit = Bandwidth.parse(["22:00-06:00=0", "12:00-13:00=3k", "08:00-18:00=2k", "1k"])
    hours = {0: 0, 5: 0, 6: 1024, 8: 2048, 12: 3072, 13: 2048, 18: 1024, 22: 0}
    assert {hour: limit.rate(at(hour)) for hour in hours} == hours
    assert limit.rate(at(5, 59)) == 0 and limit.rate(at(6, 0)) == 1024
    assert limit.least == 1024
    assert not Bandwidth.parse(["0"]) and not Bandwidth.parse([])
    assert Bandwidth.parse(["01:00-02:00=1"]).least == 1


@pytest.mark.parametrize(
    "words",
    [["fast"], ["1k", "2k"], ["24:00-25:00=1k"], ["08:00-08:60=1k"], ["08:00-18:00=much"], ["8-18=1k"]],
)
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="'"):
        Bandwidth.parse(words)


def sent_after(limiter: Limiter, clock: Clock, octets: int, count: int) -> float:
    begun = clock.seconds()
    for _ in range(count):
        done = limiter.turn(octets)
        while not done.called:
            clock.advance(0.01)
    return clock.seconds() - begun


def test_octets_leave_as_fast_as_is_allowed_and_what_did_not_wait_counts() -> None:
    clock = Clock()
    limiter = Limiter(Bandwidth.parse(["100k"]), clock, lambda: at(1))
    assert limiter.grain() == 5120
    assert 9.9 <= sent_after(limiter, clock, 10 * 1024, 100) + 0.1 <= 10.5
    clock.advance(100)
    assert sent_after(limiter, clock, 1024, 1) == 0  # what was not used is not saved up
    limiter.spend(300 * 1024)
    assert 2.9 <= sent_after(limiter, clock, 1024, 1) <= 3.1


def test_the_rate_follows_the_time_of_the_day() -> None:
    clock, now = Clock(), [at(7)]
    limiter = Limiter(Bandwidth.parse(["0", "08:00-18:00=1k"]), clock, lambda: now[0])
    assert limiter.grain() == 0 and sent_after(limiter, clock, 1 << 30, 3) == 0
    now[0] = at(8)
    clock.advance(2)
    assert limiter.grain() == 1024 and 1.9 <= sent_after(limiter, clock, 1024, 3) <= 2.1
