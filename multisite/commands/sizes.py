"""Sizes as MultiSite takes them: a number of kilobytes, or with k, m or g behind it."""

from __future__ import annotations

import re

from cyrus_sync.common.errors import UsageError

_SIZE = re.compile(r"([1-9][0-9]{0,11})([kmg]?)", re.IGNORECASE | re.ASCII)
_POWER = {"": 1024, "k": 1024, "m": 1024**2, "g": 1024**3}


def parse_size(text: str, option: str) -> int:
    """Octets.

    >>> parse_size("1m", "-maxsize"), parse_size("200", "-maxsize")
    (1048576, 204800)
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{option} {text}: a number is needed (kilobytes), or one with k, m or g behind it")
    return int(found[1]) * _POWER[found[2].lower()]


def parse_count(text: str, option: str) -> int:
    """A number from 1."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII):
        raise UsageError(f"{option} {text}: a number from 1 is needed")
    return int(text)
