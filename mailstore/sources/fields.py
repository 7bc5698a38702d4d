"""What header fields tell of a message's flags, keywords and dates.

Status and X-Status are those of UW, Pine, mutt and Dovecot: letters, each once. A field of that name with
anything else in it (a bug tracker's ``Status: RESOLVED``) belongs to the message and says nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

from cyrus_sync.mailstore.flags import SETTABLE, is_keyword, keyword_of
from cyrus_sync.mailstore.sources.message import Report, parse_date, record_flags

_HEADER_END = re.compile(rb"^\r?\n", re.MULTILINE)
_STATUS = {"R": "\\Seen"}
_X_STATUS = {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"}
_STATUS_LETTERS = re.compile(r"(?:([RONUD])(?!.*\1))*")
_X_STATUS_LETTERS = re.compile(r"(?:([ACDFNORTU])(?!.*\1))*")
_MOZILLA = {0x0001: "\\Seen", 0x0002: "\\Answered", 0x0004: "\\Flagged", 0x1000: "$Forwarded"}
_MOZILLA_EXPUNGED = 0x0008
_NAMED = 5
_FOLDED = re.compile(rb"\r?\n[ \t]+")


def header_of(raw: bytes) -> bytes:
    """The header, unfolded."""
    end = _HEADER_END.search(raw)
    return _FOLDED.sub(b" ", raw[: end.start()] if end else raw)


def field(header: bytes, name: bytes) -> bytes:
    """The first field of that name, stripped; empty if there is none."""
    found = _field_pattern(name).search(header)
    return found[1].strip() if found else b""


@cache
def _field_pattern(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"^" + re.escape(name) + rb"[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def date_of(header: bytes) -> int | None:
    """When the message came: the last Received field's date, else Date; Unix seconds."""
    received = field(header, b"Received").rpartition(b";")[2]
    for text in (received, field(header, b"Date")):
        when = parse_date(text.decode("latin-1"))
        if when is not None:
            return when
    return None


def status_flags(header: bytes) -> list[str]:
    """The flags that Status, X-Status, X-Keywords, X-Mozilla-Status and X-Mozilla-Keys tell; keywords
    among them that IMAP does not allow too (`LeftOut.flags` names them)."""
    flags = []
    for name, letters, meaning in (
        (b"Status", _STATUS_LETTERS, _STATUS),
        (b"X-Status", _X_STATUS_LETTERS, _X_STATUS),
    ):
        value = field(header, name).decode("latin-1")
        if letters.fullmatch(value):
            flags += [meaning[letter] for letter in value if letter in meaning]
    return flags + _keywords(field(header, b"X-Keywords")) + mozilla_flags(header)


def mozilla_flags(header: bytes) -> list[str]:
    """The flags and keywords that Thunderbird keeps in a message: X-Mozilla-Status, X-Mozilla-Keys."""
    mozilla = mozilla_status(header)
    flags = [flag for bit, flag in _MOZILLA.items() if mozilla & bit]
    return flags + _keywords(field(header, b"X-Mozilla-Keys"))


def _keywords(value: bytes) -> list[str]:
    try:
        words = value.decode("utf-8").split()
    except UnicodeDecodeError:
        words = value.decode("latin-1").split()
    return [keyword_of(word) or word for word in words]


def mozilla_status(header: bytes) -> int:
    """X-Mozilla-Status as a number."""
    value = field(header, b"X-Mozilla-Status")
    return int(value, 16) if re.fullmatch(rb"[0-9A-Fa-f]{1,8}", value) else 0


def is_gone(header: bytes) -> bool:
    """True for what Thunderbird has deleted but not yet cut out of its file."""
    return bool(mozilla_status(header) & _MOZILLA_EXPUNGED)


class LeftOut:
    """What of one source is not taken over, to be said in a line each at its end."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._gone: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()

    def gone(self, place: str) -> None:
        """A message of the file or directory `place` that is marked as deleted for good."""
        self._gone[place] += 1

    def flags(self, found: Iterable[str]) -> str:
        """`found` as a record has them, without keywords that IMAP does not allow."""
        good = []
        for flag in found:
            if flag.lower() in SETTABLE or is_keyword(flag):
                good.append(flag)
            else:
                self._bad[flag] += 1
        return record_flags(good)

    def say(self, source: str) -> None:
        """Report everything once."""
        for place, count in self._gone.items():
            self._report(f"{place}: {count} messages left out: they are marked as deleted for good")
        if self._bad:
            words = ", ".join(sorted(self._bad)[:_NAMED]).encode("ascii", "backslashreplace").decode()
            count = sum(self._bad.values())
            self._report(f"{source}: {count} keywords left out, which IMAP does not allow: {words}")
        self._gone.clear()
        self._bad.clear()
