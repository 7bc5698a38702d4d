from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.dates import format_datetime, parse_datetime

SATURDAY = datetime(2026, 11, 21, 9, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2026-11-21 09:30:15"),
        ("today", "2026-11-21 00:00:00"),
        ("yesterday", "2026-11-20 00:00:00"),
        ("yesterday.14:35", "2026-11-20 14:35:00"),
        ("14:35", "2026-11-21 14:35:00"),
        ("7:05:09", "2026-11-21 07:05:09"),
        ("30-Oct-2000.14:35:49", "2000-10-30 14:35:49"),
        ("30-OCTOBER-2000", "2000-10-30 00:00:00"),
        ("30-oct-00", "2000-10-30 00:00:00"),
        ("1-Jan-99", "1999-01-01 00:00:00"),
        ("21-Nov", "2026-11-21 00:00:00"),
        ("22-Nov", "2025-11-22 00:00:00"),
        ("29-Feb", "2024-02-29 00:00:00"),
        ("saturday", "2026-11-21 00:00:00"),
        ("Sun", "2026-11-15 00:00:00"),
        ("1-Jan-2030", "2030-01-01 00:00:00"),
        ("14:35UTC", "2026-11-21 14:35:00"),
        ("14:35 UTC+2", "2026-11-21 12:35:00"),
        ("30-Oct-2000.14:35UTC-5:30", "2000-10-30 20:05:00"),
        ("today.UTC+12", "2026-11-20 12:00:00"),
    ],
)
def test_each_form_of_a_date_and_time_is_read(text: str, moment: str) -> None:
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert parse_datetime(text, SATURDAY) == int(expected.timestamp())


@pytest.mark.parametrize(
    "text",
    ["", "soon", "30-Foo-2000", "32-Oct-2000", "30-Feb-2000", "24:00", "12:60", "12:00:60", "12",
     "30-Oct-2000.", "30-Oct-2000.noon", "30-Oct-200", "12:00UTC+25", "1-Jan-1969", "UTC", "today.now"],
)  # fmt: skip
def test_what_is_no_date_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"'{text}'")):
        parse_datetime(text, SATURDAY)


def test_a_time_is_local_unless_it_says_otherwise() -> None:
    tokyo = SATURDAY.astimezone(timezone(timedelta(hours=9)))
    assert parse_datetime("12:00", tokyo) == parse_datetime("3:00", SATURDAY)
    # In Tokyo it is the 21st until 15:00 UTC.
    late = datetime(2026, 11, 21, 16, 0, tzinfo=UTC).astimezone(timezone(timedelta(hours=9)))
    assert parse_datetime("today.0:00UTC", late) == parse_datetime("today", SATURDAY)


@given(st.integers(0, 4_000_000_000))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_datetime(format_datetime(seconds), SATURDAY) == seconds
