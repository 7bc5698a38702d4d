"""The flags of a record as the protocol writes them."""

from __future__ import annotations

import struct
from functools import lru_cache

ANSWERED, FLAGGED, DELETED, DRAFT, SEEN = 1, 2, 4, 8, 16
SNOOZED = 1 << 26
SPLIT_CONVERSATION = 1 << 27
NEEDS_CLEANUP = 1 << 28
ARCHIVED = 1 << 29
"""The file lies in the archive partition."""
UNLINKED = 1 << 30
"""There is no file any more."""
EXPUNGED = 1 << 31

KNOWN = (
    ANSWERED | FLAGGED | DELETED | DRAFT | SEEN
    | SNOOZED | SPLIT_CONVERSATION | NEEDS_CLEANUP | ARCHIVED | UNLINKED | EXPUNGED
)  # fmt: skip

_IN_ORDER = (
    (DELETED, "\\Deleted"),
    (ANSWERED, "\\Answered"),
    (FLAGGED, "\\Flagged"),
    (DRAFT, "\\Draft"),
    (SEEN, "\\Seen"),
)
_WORD = 32
_WORDS = struct.Struct(">4I")
_MOST = 4096


class UnknownFlag(ValueError):
    """A bit of the flags' word for which no Cyrus has a use."""


class FlagTexts(dict[tuple[int, bytes], str]):
    """The text of ``Record.flags`` by (flags' word, words of user flags), made once for each combination.

    A bit of a slot that has no keyword stands for nothing. Raises `UnknownFlag`.
    """

    def __init__(self, keywords: tuple[str | None, ...]) -> None:
        super().__init__()
        self.keywords = keywords

    def __missing__(self, key: tuple[int, bytes]) -> str:
        word, bits = key
        if word & ~KNOWN:
            raise UnknownFlag(f"{word & ~KNOWN:#010x}")
        names = [name for bit, name in _IN_ORDER if word & bit]
        if any(bits):
            slots = sum(part << _WORD * number for number, part in enumerate(_WORDS.unpack(bits)))
            names += [keyword for slot, keyword in enumerate(self.keywords) if keyword and slots >> slot & 1]
        if len(self) >= _MOST:
            self.clear()
        text = self[key] = " ".join(names)
        return text


@lru_cache(1024)
def flag_texts(keywords: tuple[str | None, ...]) -> FlagTexts:
    """Those of mailboxes with these names in the slots of keywords; most mailboxes have the same few."""
    return FlagTexts(keywords)
