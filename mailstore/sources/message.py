"""A message on its way into a store, and what all sources need: names, dates, flags in header fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from email.utils import mktime_tz, parsedate_tz
from typing import NamedTuple, Protocol

from common.model import MessageBody
from common.names import check_mailbox_name
from common.utf7 import ascii_name
from mailstore.flags import flag_text, keyword_of

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = {"R": "\\Seen"}
_X_STATUS = {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"}
_MOZILLA = {0x0001: "\\Seen", 0x0002: "\\Answered", 0x0004: "\\Flagged", 0x1000: "$Forwarded"}
_STATUS_WORD = re.compile(r"[ADFNORTU]*")
_MOZILLA_EXPUNGED = 0x0008
_ENCODED_DOT = "&AC4-"
"""How `mailstore export` writes a dot inside a name, where dots separate levels."""

Report = Callable[[str], None]


class Heard:
    """A `Report` that knows whether it was ever made."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.anything = False

    def __call__(self, problem: str) -> None:
        self.anything = True
        self._report(problem)


class SourceMessage(NamedTuple):
    """`folder` is the path below the target, as components of an internal name; () is the target itself.

    `raw` is what is to be stored (a large message is read from its source when it is wanted), `flags` is
    as a record has them, `consumed` is its size at the source, `uid` the UID that it has there (0 = none).
    """

    folder: tuple[str, ...]
    raw: bytes | MessageBody
    internaldate: int
    flags: str
    consumed: int
    uid: int = 0

    @property
    def guid(self) -> bytes:
        return hashlib.sha1(self.raw).digest() if isinstance(self.raw, bytes) else self.raw.guid

    @property
    def in_memory(self) -> int:
        """How many octets of it are held."""
        return len(self.raw) if isinstance(self.raw, bytes) else 0


class Counters(NamedTuple):
    """What an IMAP server said of a folder. `guid` is its own name for it, "" if there is none."""

    uidvalidity: int
    next_uid: int
    guid: str


class Source(Protocol):
    """Something that holds mail."""

    def size(self) -> int:
        """Octets of all messages, for a progress bar."""

    def folders(self) -> list[tuple[str, ...]]:
        """All folders, empty ones too."""

    def messages(self) -> Iterator[SourceMessage]:
        """All messages, folder after folder."""

    def subscriptions(self) -> list[tuple[str, ...]]:
        """The folders that the user has subscribed to."""

    def counters(self, folder: tuple[str, ...]) -> Counters | None:
        """What clients know a folder by; None where the source has no UIDs."""

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        """After `messages`: whether every message of the folder was given; None: whether every folder was."""


def from_top(folder: tuple[str, ...]) -> tuple[str, ...]:
    """Where a source's folder belongs: one called INBOX at its top is the target itself."""
    return folder[1:] if folder and folder[0].upper() == "INBOX" else folder


def component(name: str) -> str:
    """A folder's name as a component of an internal name (dots become ``^``). Raises `BadName`."""
    found = ascii_name(name).replace(".", "^").replace(_ENCODED_DOT, "^")
    check_mailbox_name(f"x.{found}")
    return found


def header_of(raw: bytes) -> bytes:
    """The header, unfolded."""
    end = _HEADER_END.search(raw)
    return re.sub(rb"\r?\n[ \t]+", b" ", raw[: end.start()] if end else raw)


def field(header: bytes, name: bytes) -> bytes:
    """The first field of that name, stripped; empty if there is none."""
    found = re.search(rb"^" + re.escape(name) + rb"[ \t]*:([^\r\n]*)", header, re.IGNORECASE | re.MULTILINE)
    return found[1].strip() if found else b""


def date_of(header: bytes) -> int | None:
    """When the message came: the last Received field's date, else Date; Unix seconds."""
    received = field(header, b"Received").rpartition(b";")[2]
    for text in (received, field(header, b"Date")):
        when = parse_date(text.decode("latin-1"))
        if when is not None:
            return when
    return None


def parse_date(text: str) -> int | None:
    """An RFC 5322 date, leniently; None if it is none, or before 1970."""
    parsed = parsedate_tz(text) if text else None
    if parsed is None:
        return None
    try:
        when = int(mktime_tz(parsed))
    except (ValueError, OverflowError):
        return None
    return when if 0 < when < 2**40 else None


def status_flags(header: bytes) -> list[str]:
    """The flags that Status, X-Status, X-Keywords and X-Mozilla-Status tell."""
    flags = _letters(field(header, b"Status"), _STATUS) + _letters(field(header, b"X-Status"), _X_STATUS)
    return flags + _keywords(field(header, b"X-Keywords")) + mozilla_flags(header)


def _letters(value: bytes, known: dict[str, str]) -> list[str]:
    """Flags of a Status field: letters that mail programs write, each once. Other words are another's:
    a bug tracker's ``Status: RESOLVED`` says nothing of the message."""
    found = value.decode("latin-1").replace(" ", "")
    if not _STATUS_WORD.fullmatch(found) or len(set(found)) < len(found):
        return []
    return [known[letter] for letter in found if letter in known]


def _keywords(value: bytes) -> list[str]:
    try:
        words = value.decode("utf-8").split()
    except UnicodeDecodeError:
        words = value.decode("latin-1").split()
    return [keyword for keyword in map(keyword_of, words) if keyword is not None]


def mozilla_flags(header: bytes) -> list[str]:
    """The flags and keywords that Thunderbird keeps in a message: X-Mozilla-Status, X-Mozilla-Keys."""
    mozilla = mozilla_status(header)
    flags = [flag for bit, flag in _MOZILLA.items() if mozilla & bit]
    return flags + _keywords(field(header, b"X-Mozilla-Keys"))


def mozilla_status(header: bytes) -> int:
    """X-Mozilla-Status as a number."""
    try:
        return int(field(header, b"X-Mozilla-Status") or b"0", 16)
    except ValueError:
        return 0


def is_gone(header: bytes) -> bool:
    """True for what Thunderbird has deleted but not yet cut out of its file."""
    return bool(mozilla_status(header) & _MOZILLA_EXPUNGED)


def record_flags(flags: list[str]) -> str:
    """As a record has them."""
    return flag_text(flags)
