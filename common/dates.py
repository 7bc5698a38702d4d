"""The date-time arguments of MultiSite's commands (``-pexpire``, ``-since``).

``date.time | date | time | now``. A date is ``30-Oct-2000``, ``30-Oct-00``, ``30-Oct``, ``today``,
``yesterday`` or a day of the week; a time is ``14:35[:49]``, on the 24-hour clock and local unless ``UTC`` or
``UTC+2[:30]`` follows. Without a time midnight is meant, without a date today. A year, a century or a week
that is not said is the latest one that puts the date at or before today.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?", re.ASCII)
_ZONE = re.compile(r"[.\s]*utc(?:\s*([+-])\s*(\d{1,2})(?::(\d{1,2}))?)?", re.IGNORECASE | re.ASCII)
_LONG_DATE = re.compile(r"(\d{1,2})-([a-z]+)(?:-(\d{2}|\d{4}))?", re.ASCII)


def parse_datetime(text: str, now: datetime | None = None) -> int:
    """Seconds since 1970 (UTC). `now` has a zone; its zone is the local one. `ValueError` says what is
    wrong with `text`."""
    now = now or datetime.now().astimezone()
    plain = text.strip().lower()
    if not plain:
        raise ValueError("'' is not a date and time (such as 30-Oct-2000.14:35:49)")
    if plain == "now":
        return int(now.timestamp())
    zone: tzinfo | None = None
    found = re.search(_ZONE.pattern + r"$", plain, _ZONE.flags)
    if found and found.start():
        zone = _zone(text, found)
        plain = plain[: found.start()]
    day_text, dot, time_text = plain.partition(".")
    if not dot and ":" in day_text:
        day_text, time_text = "", day_text
    today = (now.astimezone(zone) if zone else now).date()
    day = _day(text, day_text, today) if day_text else today
    hour, minute, second = _time(text, time_text) if time_text or dot else (0, 0, 0)
    moment = datetime(day.year, day.month, day.day, hour, minute, second)
    seconds = int(moment.replace(tzinfo=zone).timestamp() if zone else _local(moment, now).timestamp())
    if seconds < 0:
        raise ValueError(f"'{text}' is before 1970")
    return seconds


def format_datetime(seconds: int) -> str:
    """``30-Oct-2000.14:35:49UTC``: one word that `parse_datetime` reads, whatever the language set."""
    moment = datetime.fromtimestamp(seconds, UTC)
    month = MONTHS[moment.month - 1].capitalize()
    return f"{moment.day:02}-{month}-{moment.year:04}.{moment:%H:%M:%S}UTC"


def _local(moment: datetime, now: datetime) -> datetime:
    """`moment` in the system's zone, or in that of `now` where that is another one (as tests have it)."""
    if now.utcoffset() == now.astimezone(None).utcoffset():
        return moment.astimezone()
    return moment.replace(tzinfo=now.tzinfo)


def _zone(text: str, found: re.Match[str]) -> timezone:
    offset = timedelta(hours=int(found[2] or 0), minutes=int(found[3] or 0))
    if offset >= timedelta(hours=24) or int(found[3] or 0) > 59:
        raise ValueError(f"'{text}': no zone is that far from UTC")
    return timezone(-offset if found[1] == "-" else offset)


def _time(text: str, part: str) -> tuple[int, int, int]:
    found = _TIME.fullmatch(part)
    if not found:
        raise ValueError(f"'{text}' is not a date and time (such as 30-Oct-2000.14:35:49)")
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"'{text}': there is no such time of day")
    return hour, minute, second


def _day(text: str, part: str, today: date) -> date:
    if part == "today":
        return today
    if part == "yesterday":
        return today - timedelta(days=1)
    for number, name in enumerate(_WEEKDAYS):
        if part in (name, name[:3]):
            return today - timedelta(days=(today.weekday() - number) % 7)
    found = _LONG_DATE.fullmatch(part)
    if not found or (found[2] not in _LONG_MONTHS and found[2] not in MONTHS):
        raise ValueError(f"'{text}' is not a date and time (such as 30-Oct-2000.14:35:49)")
    day, month = int(found[1]), MONTHS.index(found[2][:3]) + 1
    if found[3] and len(found[3]) == 4:
        years = [int(found[3])]
    elif found[3]:
        century = today.year - today.year % 100
        years = [century + int(found[3]), century - 100 + int(found[3])]
    else:
        years = [today.year - back for back in range(9)]
    for year in years:
        try:
            made = date(year, month, day)
        except ValueError:
            continue
        if made <= today or len(years) == 1:
            return made
    raise ValueError(f"'{text}': there is no such day")
