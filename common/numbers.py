"""Numbers that come from outside: digits 0-9 and nothing else; and sets of them as IMAP has them.

``str.isdigit`` says yes to ``²`` and ``٣``: `int` then fails on the one and takes the other.

>>> decimal("17"), decimal("²"), decimal("+1"), decimal("", default=0)
(17, None, None, 0)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, overload

from cyrus_sync.common.model import MAX_UID

_Default = TypeVar("_Default")

MAX_DIGITS = 20
"""Longer ones are no numbers to us (2**64 has twenty)."""


@overload
def decimal(text: str | bytes, maximum: int | None = None) -> int | None: ...


@overload
def decimal(text: str | bytes, maximum: int | None = None, *, default: _Default) -> int | _Default: ...


def decimal(text: str | bytes, maximum: int | None = None, *, default: object = None) -> object:
    """The number that `text` is in decimal digits; `default` if it is none, or above `maximum`."""
    if len(text) > MAX_DIGITS or not text.isascii() or not text.isdigit():
        return default
    number = int(text)
    return default if maximum is not None and number > maximum else number


def number(text: str) -> int:
    """For argparse: a number of at most 32 bits. Raises ValueError."""
    found = decimal(text, MAX_UID)
    if found is None:
        raise ValueError(text)
    return found


def uid_number(text: str | bytes) -> int:
    """A UID, UIDVALIDITY or such: 1 to 2**32 - 1; 0 if `text` is none."""
    return decimal(text, MAX_UID, default=0)


def number_set(numbers: Iterable[int]) -> bytes:
    """Ascending numbers as IMAP writes a set of them (RFC 3501, 9), as short as can be.

    >>> number_set([1, 2, 3, 9])
    b'1:3,9'
    """
    runs: list[list[int]] = []
    for one in numbers:
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in runs)
