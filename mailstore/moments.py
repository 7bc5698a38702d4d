"""Times that an administrator types: a TIME of mailstore's options.

``2026-11-24``, ``2026-11-24 08:00[:30]``, ``2026-11-24T08:00+01:00`` (ISO 8601; local time where no zone is
said, in summer as in winter), ``24-Nov-2026.08:00`` as MultiSite's commands have it (`common.dates`), or how
long ago: ``2d``, ``3h``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cyrus_sync.common.config import values
from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import UsageError

_DAY = re.compile(r"\d{4}-?\d{2}-?\d{2}", re.ASCII)


def moment_of(typed: str, now: float, *, option: str, end: bool = False) -> int:
    """Unix seconds of a TIME that was given to `option`, which an error names. A day alone is its first
    second, or its last (`end`). Raises `UsageError`."""
    text = typed.strip()
    try:
        moment = datetime.fromisoformat(text)
        if end and _DAY.fullmatch(text):
            moment += timedelta(days=1, seconds=-1)
        return max(int(moment.timestamp()), 0)
    except (ValueError, OverflowError):
        pass
    try:
        return max(int(now) - values.duration(text, "d"), 0)
    except ValueError:
        pass
    try:
        return parse_datetime(text, datetime.fromtimestamp(now).astimezone())
    except ValueError:
        raise UsageError(
            f"{option}: '{typed}' is neither a time ('2024-01-31 17:30') nor a duration ago (2d, 3h)"
        ) from None


def shown(moment: int) -> str:
    """A time in words that may be typed again: local, with its offset from UTC."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(" ")
