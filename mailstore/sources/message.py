"""A message on its way into a store, and what all sources need: names, dates, flags in header fields."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from email.utils import mktime_tz, parsedate_tz
from typing import NamedTuple, Protocol

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import check_mailbox_name
from cyrus_sync.common.utf7 import ascii_name
from cyrus_sync.mailstore.flags import flag_text

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


def record_flags(flags: list[str]) -> str:
    """As a record has them."""
    return flag_text(flags)
