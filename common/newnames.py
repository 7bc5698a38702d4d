"""Which names may be given to something new: those that a real Cyrus would create. And new uniqueids.

A store keeps every name that a master sends (`common.names.check_mailbox_name`). What is born here shall
be one that a Cyrus takes, or it could never be replicated to one: these are the rules of Cyrus 3.6
(``mboxname_policycheck``), with reasons. A real server applies them to what a master sends, too.

>>> check_new_name("user.jim.R&D")
Traceback (most recent call last):
common.names.BadName: Invalid mailbox name: an & is written &- (R&-D) [mailbox=user.jim.R&D]
>>> fitting("50%"), fitting("R&D")
('50&,wU-', 'R&-D')
"""

from __future__ import annotations

import re
import secrets
import string

from cyrus_sync.common.names import (
    BadName,
    check_mailbox_name,
    live_name,
    owner_user,
    split_domain,
)
from cyrus_sync.common.utf7 import decode, encode

_FORBIDDEN = re.compile(r"[\"%/;<>\\`{|}]")
"""Printable ASCII that stands in no name of Cyrus (``!`` only in a domain's, ``&`` begins letters)."""

_WIDE = {code: code + 0xFEE0 for code in map(ord, '"%/;<>\\`{|}!')}
_PICTURES = {code: code + 0x2400 for code in range(32)} | {0x7F: 0x2421}
_OCTETS = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD) | {0xDC00 + octet: octet for octet in range(128, 256)}
_RESERVED = ("anyone", "anonymous")
_ALPHABET = string.ascii_lowercase + string.digits


def new_uniqueid() -> str:
    """A uniqueid for a new mailbox: 24 lower-case letters and digits, as Cyrus 3.6 makes them."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(24))


def check_new_name(name: str, *, domains: bool = True) -> str:
    """The internal `name` if something new may be called so; raises `BadName` with the reason.

    `domains` False: virtdomains is off, so nobody has one.
    """
    check_mailbox_name(name)
    problem = _problem(live_name(name), domains)
    if problem:
        raise BadName(f"Invalid mailbox name: {problem}").at(mailbox=name[:80])
    return name


def _problem(name: str, domains: bool) -> str:
    """Why Cyrus creates no mailbox of that name, "" if it does."""
    domain, inner = split_domain(name)
    first, *below = inner.split(".")
    if domain and not domains:
        return "there are no domains with virtdomains: off"
    if domain and not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", domain):
        return f"{domain} is no domain"
    if name.startswith("$") or first.startswith("~"):
        return f"the name of a shared mailbox does not begin with {first[0]}"
    if first == "user" and not below:
        return "users are below user, it is no mailbox"
    if first == "user" and (owner_user(name) in _RESERVED or below[0].startswith("%")):
        return f"nobody can be called {below[0]}"
    return next(filter(None, (_problem_of_level(level) for level in (first, *below))), "")


def _problem_of_level(level: str) -> str:
    bad = _FORBIDDEN.search(level)
    if bad:
        return f"a {bad[0]} stands in no name"
    text = decode(level)
    if encode(text) == level:
        return ""
    if text != level:
        return f"{level} is not as modified UTF-7 writes it ({encode(text)})"
    return f"an & is written &- ({level.replace('&', '&-')})"


def fitting(level: str, *, domain: bool = False) -> str:
    """A level of a name that comes from elsewhere, so that Cyrus would create it.

    What stands in no name becomes what looks like it: the wide form, the picture of a control character,
    octets that are no UTF-8 the letters that Latin-1 has for them. A level that fits stays as it is. In the
    name of a domain's mailbox (`domain`) a ``!`` fits.
    """
    plain = level.isascii() and level.isprintable()
    if plain and not _problem_of_level(level) and (domain or "!" not in level):
        return level
    text = decode(level) if plain else level
    return encode(text.translate(_OCTETS).translate(_WIDE).translate(_PICTURES))
