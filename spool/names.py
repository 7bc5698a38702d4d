"""Names as Cyrus's files have them, and the letters of the directories that they are spread over.

Three forms: *internal* (``user.al^b.Work``, ``ex.org!user.joe``) as everywhere here; *database* names, of the
mailboxes.db and the subscriptions of 3.6 and later: levels parted by 1F, domain and 1D in front, dots are
dots; and *paths*, whose levels are those of internal names.

>>> database_name("ex.org!user.al^b.Work")
b'ex.org\\x1duser\\x1fal.b\\x1fWork'
>>> internal_name(b"user\\x1fal.b\\x1fWork")
'user.al^b.Work'
>>> directory_letter("Zoe", full=False), directory_letter("al", full=True)
('z', 'U')
"""

from __future__ import annotations

from cyrus_sync.common.names import split_domain

LEVEL = "\x1f"
DOMAIN = "\x1d"


def database_name(name: str) -> bytes:
    """The database name of an internal one."""
    domain, inner = split_domain(name)
    levels = inner.replace(".", LEVEL).replace("^", ".")
    return (f"{domain}{DOMAIN}{levels}" if domain else levels).encode()


def internal_name(name: bytes) -> str:
    """The internal name of a database one; raises UnicodeDecodeError."""
    domain, separator, levels = name.decode().rpartition(DOMAIN)
    inner = levels.replace(".", "^").replace(LEVEL, ".")
    return f"{domain}!{inner}" if separator else inner


def directory_letter(text: str, *, full: bool) -> str:
    """The letter of the directory that `text` (with real dots) is kept in; `full`: ``fulldirhash``."""
    if not full:
        first = text[:1].lower()
        return first if first.isascii() and first.isalpha() else "q"
    total = 0
    for octet in text.partition(".")[0].encode():
        total = ((total << 3) ^ (total >> 5) ^ octet) & 0xFFFF_FFFF
    return chr(ord("A") + total % 23)
