"""Sizes as MultiSite takes them: a number of kilobytes, or with k, m or g behind it."""

from __future__ import annotations

import contextlib
import re

from cyrus_sync.common.config import values
from cyrus_sync.common.errors import UsageError


def parse_size(text: str, option: str) -> int:
    """Octets.

    >>> parse_size("1m", "-maxsize"), parse_size("200", "-maxsize")
    (1048576, 204800)
    """
    with contextlib.suppress(ValueError):
        if (found := values.size(text.strip(), "k")) > 0:
            return found
    raise UsageError(f"{option} {text}: a number is needed (kilobytes), or one with k, m or g behind it")


def parse_count(text: str, option: str) -> int:
    """A number from 1."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text, re.ASCII):
        raise UsageError(f"{option} {text}: a number from 1 is needed")
    return int(text)
