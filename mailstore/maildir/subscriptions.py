r"""Who reads what: Dovecot's ``subscriptions`` (both versions), Courier's ``courierimapsubscribed``.

Version 2 begins with the lines ``V<tab>2`` and an empty one; the levels of a name are separated by tabs, and
what cannot stand in a line is written with an octet 1. Before, a line was the name with its separator. Names
are those of directories without the dot in front: ``Work.2026``.

>>> read_subscriptions(b"V\t2\n\nWork\t2026\n")
['Work.2026']
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_HEADER = b"V\t2\n\n"
_ESCAPED = re.compile(r"\x01([01tnr])")
_MEANT = {"0": "\0", "1": "\x01", "t": "\t", "n": "\n", "r": "\r"}


def read_subscriptions(data: bytes) -> list[str]:
    """Names as directories have them, without the dot in front; "INBOX" is the INBOX."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[0] != "V\t2":
        return [line.rstrip("\r").replace("/", ".") for line in lines if line.strip()]
    return [
        ".".join(_ESCAPED.sub(lambda found: _MEANT[found[1]], part) for part in line.split("\t"))
        for line in lines[1:]
        if line
    ]


def read_courier_subscriptions(data: bytes) -> list[str]:
    """As `read_subscriptions`; Courier has everything below ``INBOX``."""
    names = [line for line in data.decode("utf-8", "surrogateescape").split("\n") if line.strip()]
    return [name.removeprefix("INBOX.") for name in names]


def write_subscriptions(names: Iterable[str]) -> bytes:
    """Version 2, as Dovecot writes it, of names as `read_subscriptions` gives them."""
    lines = "".join(name.replace(".", "\t") + "\n" for name in names)
    return _HEADER + lines.encode("utf-8", "surrogateescape")
