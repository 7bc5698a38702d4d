"""The line that begins a message in an mbox: ``From sender date``, as real programs write it.

``From bob@example.org Mon Jan  1 10:00:00 2024`` is RFC 4155's. Beside it there are a zone before the year
(Gmail: ``+0000 2024``) or behind it, names of zones (``MET DST``), no seconds, two-digit years, a sender in
quotes, of several words (Mailman: ``bob at example.org``) or none, ``remote from host`` (UUCP), dates as in
RFC 5322 and in ISO 8601. Thunderbird's sender is ``-``, and its newer releases write ``From `` alone. A
line of text such as ``From memory I would say so`` has no date and is none.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from cyrus_sync.mailstore.sources.message import parse_date

LONGEST = 2048
"""No postmark has more octets."""

_WEEKDAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(?P<{0}>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = rb"(?P<{0}>[0-2]?[0-9]:[0-5][0-9](?::[0-6][0-9])?)(?:\.[0-9]+)?"
_ZONES = rb"(?P<{0}>(?:[ \t]+(?:[+-][0-9]{4}|[A-Z]{1,5}(?:[+-][0-9]{1,4})?)){0,2})"


def _named(part: bytes, name: str) -> bytes:
    """`part` with its group called `name`."""
    return part.replace(b"{0}", name.encode(), 1)


_ASCTIME = (
    _WEEKDAY
    + rb",?[ \t]+"
    + _named(_MONTH, "month")
    + rb"[ \t]+(?P<day>[0-3]?[0-9])[ \t]+"
    + _named(_TIME, "time")
    + _named(_ZONES, "before")
    + rb"[ \t]+(?P<year>[0-9]{4}|[0-9]{2})"
    + _named(_ZONES, "after")
)
_RFC = (
    rb"(?:"
    + _WEEKDAY
    + rb",?[ \t]+)?(?P<rfc_day>[0-3]?[0-9])[ \t-]"
    + _named(_MONTH, "rfc_month")
    + rb"[ \t-](?P<rfc_year>[0-9]{4}|[0-9]{2})[ \t]+"
    + _named(_TIME, "rfc_time")
    + _named(_ZONES, "rfc_zone")
)
_ISO = (
    rb"(?P<iso_year>[0-9]{4})-(?P<iso_month>[01][0-9])-(?P<iso_day>[0-3][0-9])[ T]"
    + _named(_TIME, "iso_time")
    + rb"(?P<iso_zone>[ ]?(?:Z|[+-][0-9]{2}:?[0-9]{2}))?"
)
_DATED = re.compile(
    rb"From[ \t]+(?:(?P<sender>\S.*?)[ \t]+)??(?:"
    + rb"|".join((_ASCTIME, _RFC, _ISO))
    + rb")(?:[ \t]+\([^()]*\))?(?:[ \t]+remote from[ \t]+\S+)?[ \t]*"
)
_ONE_WORD = re.compile(rb'(?:"[^"]*")?\S*')
_BARE = re.compile(rb"From[ \t]*-?[ \t]*|From [^\s@]+@[^\s@]+[ \t]+\S.*")
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_OFFSET = re.compile(rb"[+-][0-9]{4}")


class Kind(Enum):
    """How sure it is that a line is a postmark."""

    SURE = "a sender of one word and a date"
    LIKELY = "a date: one where a message may begin"
    BARE = "nothing behind From, or an address and no date: one with a header field behind it too"
    LOOSE = "something else: one if the whole file is like that"


class Postmark(NamedTuple):
    """`when` is its date in Unix seconds (UTC, unless it says otherwise), None without a possible one."""

    kind: Kind
    when: int | None = None


@lru_cache(maxsize=16)
def read_postmark(line: bytes) -> Postmark:
    """What `line`, which begins with ``From ``, is. Line ends may be there or not. The
    last ones are remembered: a postmark is the end of one message and the beginning of the next."""
    line = line.rstrip(b"\r\n")
    if len(line) <= LONGEST:
        found = _DATED.fullmatch(line)
        if found:
            one_word = _ONE_WORD.fullmatch(found["sender"] or b"") is not None
            return Postmark(Kind.SURE if one_word else Kind.LIKELY, _date(found))
        if _BARE.fullmatch(line):
            return Postmark(Kind.BARE)
    return Postmark(Kind.LOOSE)


def _date(found: re.Match[bytes]) -> int | None:
    if found["year"]:
        zone = _OFFSET.search(found["after"] or b"") or _OFFSET.search(found["before"] or b"")
        name = zone[0] if zone else _first_word(found["after"]) or _first_word(found["before"])
        return _seconds(found["day"], found["month"], found["year"], found["time"], name)
    if found["rfc_year"]:
        zone = _OFFSET.search(found["rfc_zone"] or b"")
        name = zone[0] if zone else _first_word(found["rfc_zone"])
        return _seconds(found["rfc_day"], found["rfc_month"], found["rfc_year"], found["rfc_time"], name)
    number = int(found["iso_month"])
    month = _MONTHS[number - 1] if 1 <= number <= 12 else b""
    name = (found["iso_zone"] or b"").strip().replace(b":", b"").replace(b"Z", b"")
    return _seconds(found["iso_day"], month, found["iso_year"], found["iso_time"], name)


def _first_word(zones: bytes | None) -> bytes:
    return (zones or b"").split()[0] if (zones or b"").split() else b""


def _seconds(day: bytes, month: bytes, year: bytes, clock: bytes, zone: bytes) -> int | None:
    return parse_date(b" ".join((day, month, year, clock, zone or b"+0000")).decode("latin-1"))
