"""Flags of a message as the one text that a record keeps them in.

System flags come first, in the order and spelling of Cyrus, then keywords in the order in which they
came. Case does not make a difference between two flags (RFC 9051, 2.3.2).

>>> flags_text(["Work", "\\\\seen", "work", "\\\\Flagged"])
'\\\\Flagged \\\\Seen Work'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import MAX_KEYWORDS, SYSTEM_FLAGS

MAX_KEYWORD = 1000
"""Octets of a new keyword: a real server refuses a mailbox in which one has 1024."""

_KEPT = tuple(name for name in SYSTEM_FLAGS if name != "\\Expunged")
_SPELLING = {name.lower(): name for name in _KEPT}
_IGNORED = {"\\recent"}
_ATOM = re.compile(r"[!#-$&-'+-\[^-z|-~]+")


def flags_text(flags: Iterable[str]) -> str:
    """The text for these flags; raises `UnknownFailure` for what is neither a system flag that one may
    set nor a keyword (an IMAP atom)."""
    system: set[str] = set()
    keywords: dict[str, str] = {}
    for flag in flags:
        lower = flag.lower()
        if lower in _SPELLING:
            system.add(_SPELLING[lower])
        elif lower in _IGNORED:
            continue
        elif _ATOM.fullmatch(flag) and len(flag) <= MAX_KEYWORD:
            keywords.setdefault(lower, flag)
        else:
            raise UnknownFailure(f"{flag[:80]!r} is not a flag that can be set")
    return " ".join([name for name in _KEPT if name in system] + list(keywords.values()))


def changed_flags(flags: str, add: Iterable[str], remove: Iterable[str]) -> str:
    """`flags` with some more and some fewer."""
    gone = {flag.lower() for flag in remove}
    kept = [flag for flag in flags.split() if flag.lower() not in gone]
    return flags_text([*kept, *add])


def keywords_of(texts: Iterable[str]) -> list[str]:
    """The keywords in flag texts, in the order in which they come."""
    return list(dict.fromkeys(flag for text in texts for flag in text.split() if not flag.startswith("\\")))


def with_keywords(known: Sequence[str], new: Iterable[str]) -> tuple[str, ...]:
    """The keywords of a mailbox, in slot order, with new ones behind; raises `UnknownFailure` beyond
    `MAX_KEYWORDS`."""
    slots = {name.lower(): name for name in known}
    for name in new:
        slots.setdefault(name.lower(), name)
    if len(slots) > max(MAX_KEYWORDS, len(known)):
        raise UnknownFailure("too many user flags in the mailbox")
    return tuple(slots.values())
