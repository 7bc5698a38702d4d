"""The value types of imapd.conf(5): switches, numbers, durations, sizes, words.

Each function reads the text of one value and raises ``ValueError`` with a text that fits after
``file:line: option: ``. Sizes are bytes, durations are seconds.

>>> duration("1h30m"), size("128k"), switch("on")
(5400, 131072, True)
"""

from __future__ import annotations

import re

_DURATION = re.compile(r"(-?)((?:\d+[dhms])*)(\d*)", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(\d+)([dhms])", re.IGNORECASE | re.ASCII)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZE = re.compile(r"(-?\d+)\s*([kmg]?)(i?)(b?)", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"(-?)(?:0x([0-9a-f]{1,16})|0([0-7]{1,22})|(0|[1-9][0-9]{0,19}))", re.IGNORECASE)
_POWER = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def switch(text: str) -> bool:
    """``yes on t true 1`` or ``no off f false 0``; like Cyrus, the first letters decide."""
    low = text.lower()
    if low.startswith(("0", "n", "f", "of")):
        return False
    if low.startswith(("1", "y", "t", "on")):
        return True
    raise ValueError(f"'{text}' is neither yes nor no")


def integer(text: str) -> int:
    """A number in C's notation: decimal, ``0x`` hexadecimal, leading 0 octal."""
    found = _INTEGER.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is not a number")
    value = int(found[2], 16) if found[2] else int(found[3], 8) if found[3] else int(found[4])
    return -value if found[1] else value


def duration(text: str, unit: str = "s") -> int:
    """Seconds of ``1h30m``; a number without unit counts in `unit` (d, h, m or s)."""
    found = _DURATION.fullmatch(text)
    if not found or not (found[2] or found[3]):
        raise ValueError(f"'{text}' is not a duration (numbers with d, h, m, s, such as 1h30m)")
    total = sum(int(number) * _SECONDS[one.lower()] for number, one in _DURATION_PART.findall(found[2]))
    if found[3]:
        total += int(found[3]) * _SECONDS[unit]
    return -total if found[1] else total


def size(text: str, unit: str = "b") -> int:
    """Bytes of ``10k``, ``10 KiB``, ``2g``; a number without unit counts in `unit` (b, k, m or g)."""
    found = _SIZE.fullmatch(text)
    if not found or (found[3] and not found[2]):
        raise ValueError(f"'{text}' is not a size (a number with k, m or g)")
    letter = found[2].lower() or ("b" if found[4] else unit)
    return int(found[1]) * _POWER[letter]


def choice(text: str, choices: tuple[str, ...]) -> str:
    """One of `choices`; where they are ``on`` or ``off``, every spelling of a switch will do."""
    low = text.lower()
    if "on" in choices and low in ("1", "yes", "y", "t", "true", "on"):
        return "on"
    if "off" in choices and low in ("0", "no", "n", "f", "false", "off"):
        return "off"
    if low not in choices:
        raise ValueError(f"'{text}' is not one of: {', '.join(choices)}")
    return low


def words(text: str, choices: tuple[str, ...] = ()) -> list[str]:
    """White space separated words; ``""`` stands for the empty word."""
    found = ["" if word == '""' else word for word in text.split()]
    for word in found:
        if choices and word.lower() not in choices:
            raise ValueError(f"'{word}' is not one of: {', '.join(choices)}")
    return found
