"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.sync_client.backoff import ONE_SHOT_PATIENCE, Backoff


def waits(backoff: Backoff, count: int) -> list[int | None]:
    return [backoff.next() for _ in range(count)]


@pytest.mark.covers("imapd.conf", "sync_reconnect_maxwait")
def test_waits_double_from_15_seconds_up_to_the_longest():
    assert waits(Backoff(1200, lambda: 0.0), 9) == [15, 30, 60, 120, 240, 480, 960, 1200, 1200]


def test_no_longest_wait_means_doubling_for_ever():
    assert waits(Backoff(0, lambda: 0.0), 9)[-1] == 15 * 2**8


def test_a_longest_wait_of_16_seconds_is_kept():
    assert waits(Backoff(16, lambda: 0.0), 4) == [15, 16, 16, 16]


def test_success_starts_the_series_anew():
    backoff = Backoff(1200, lambda: 0.0)
    waits(backoff, 4)
    backoff.succeeded()
    assert backoff.next() == 15


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 2000))
def test_chance_takes_less_than_a_second_and_no_wait_is_shorter_than_the_one_before(chance, maxwait):
    backoff = Backoff(maxwait, lambda: chance)
    taken = [(backoff.next() or 0) - backoff.early for _ in range(12)]
    assert taken == sorted(taken)
    assert 0 < taken[0] <= taken[-1] <= maxwait


def test_chance_is_asked_once_in_a_series():
    drawn = iter((0.25, 0.75))
    backoff = Backoff(20, lambda: next(drawn))
    assert [(backoff.next(), backoff.early) for _ in range(3)] == [(15, 0.25), (20, 0.25), (20, 0.25)]
    backoff.succeeded()
    assert (backoff.next(), backoff.early) == (15, 0.75)


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "58")
def test_a_one_shot_run_is_patient_for_1000_seconds_and_no_longer():
    backoff = Backoff(0, lambda: 0.0, patience=ONE_SHOT_PATIENCE)
    given_up = waits(backoff, 9)
    assert given_up == [15, 30, 60, 120, 240, 480, 55, None, None]
    assert sum(wait for wait in given_up if wait) == 1000


def test_without_patience_the_first_failure_is_the_last():
    assert Backoff(1200, lambda: 0.0, patience=0).next() is None
