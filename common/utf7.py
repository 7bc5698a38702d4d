"""Modified UTF-7 (RFC 3501, 5.1.3): how mailbox names carry other letters than ASCII's.

>>> encode("Entwürfe & mehr")
'Entw&APw-rfe &- mehr'
>>> decode("Entw&APw-rfe")
'Entwürfe'
"""

from __future__ import annotations

import base64
import binascii
import re

_FOREIGN = re.compile(r"[^\x20-\x7e]+")
_SHIFTED = re.compile(r"&([^-]*)-")


def encode(text: str) -> str:
    """`text` as a name for the wire; all ASCII, ``&`` becomes ``&-``."""

    def shift(found: re.Match[str]) -> str:
        raw = base64.b64encode(found[0].encode("utf-16-be", "surrogatepass"))
        return f"&{raw.decode().rstrip('=').replace('/', ',')}-"

    return _FOREIGN.sub(shift, text.replace("&", "&-"))


def decode(name: str) -> str:
    """What `name` says to a person; a name that is no modified UTF-7 comes back as it is."""

    def unshift(found: re.Match[str]) -> str:
        if not found[1]:
            return "&"
        raw = found[1].replace(",", "/")
        return base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True).decode("utf-16-be")

    try:
        return _SHIFTED.sub(unshift, name)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return name


def ascii_name(name: str) -> str:
    """`name` as a person typed it: ASCII stands as it is (it may be encoded already)."""
    return name if name.isascii() else encode(name)
