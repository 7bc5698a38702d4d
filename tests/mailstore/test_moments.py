"""Times as an administrator types them."""

from __future__ import annotations

import time

import pytest

from cyrus_sync.common.errors import UsageError
from cyrus_sync.mailstore.moments import moment_of, shown

NOON = 1795608000
"""2026-11-25 12:00:00 UTC, a Wednesday."""


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("typed", "utc"),
    [
        ("2026-11-24 08:00", "2026-11-24 07:00:00"),
        ("2026-07-24 08:00:01", "2026-07-24 06:00:01"),
        ("2026-11-24T08:00Z", "2026-11-24 08:00:00"),
        ("2026-11-24 08:00+05:30", "2026-11-24 02:30:00"),
        ("2026-11-24", "2026-11-23 23:00:00"),
        ("24-Nov-2026.08:00", "2026-11-24 07:00:00"),
        ("24-Nov-2026.08:00UTC", "2026-11-24 08:00:00"),
        ("yesterday", "2026-11-23 23:00:00"),
        ("2d", "2026-11-23 12:00:00"),
        ("90m", "2026-11-25 10:30:00"),
    ],
)
def test_a_time_is_local_unless_a_zone_is_said(typed, utc):
    found = moment_of(typed, NOON, option="--as-of")
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found)) == utc


def test_a_day_that_ends_something_is_meant_to_its_last_second():
    begin = moment_of("2026-10-25", NOON, option="--until")
    end = moment_of("2026-10-25", NOON, option="--until", end=True)
    assert end - begin == 25 * 3600 - 1, "the day on which summer time ends"


def test_what_is_shown_may_be_typed_again():
    assert shown(NOON) == "2026-11-25 13:00:00+01:00"
    assert moment_of(shown(NOON), 0, option="--as-of") == NOON


@pytest.mark.parametrize("typed", ["", "tomorrow", "2026-13-01"])
def test_what_is_no_time_is_refused_with_the_name_of_the_option(typed):
    with pytest.raises(UsageError, match=r"^--as-of: '.*' is neither a time"):
        moment_of(typed, NOON, option="--as-of")
