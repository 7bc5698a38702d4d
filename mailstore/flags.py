"""Flags as people type them, checked and in their canonical order."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.model import SYSTEM_FLAGS
from cyrus_sync.common.utf7 import encode

_KEYWORD = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|~}]+")
SETTABLE = {flag.lower(): flag for flag in SYSTEM_FLAGS if flag != "\\Expunged"}


def check_flags(typed: Iterable[str]) -> list[str]:
    """System flags in their own spelling, keywords as they are; raises `UsageError`."""
    found = []
    for flag in typed:
        known = SETTABLE.get(flag.lower())
        if known is None and not is_keyword(flag):
            raise UsageError(f"'{flag}' is no flag: {' '.join(SETTABLE.values())} or a keyword")
        found.append(known or flag)
    return found


def is_keyword(word: str) -> bool:
    """True for what IMAP allows as a keyword (an atom without a backslash)."""
    return bool(_KEYWORD.fullmatch(word)) and len(word) <= 200


def keyword_of(name: str) -> str | None:
    """A keyword as IMAP can say it: other letters than ASCII's in modified UTF-7, as Thunderbird does it.
    None for what cannot be one.

    >>> keyword_of("Später"), keyword_of("two words")
    ('Sp&AOQ-ter', None)
    """
    found = name if name.isascii() else encode(name)
    return found if is_keyword(found) else None


def flag_text(typed: Iterable[str]) -> str:
    """Flags as a record has them: system flags first in Cyrus's order, then keywords as they came."""
    flags = check_flags(typed)
    system = [flag for flag in SYSTEM_FLAGS if flag in flags]
    return " ".join(system + list(dict.fromkeys(flag for flag in flags if flag not in system)))
