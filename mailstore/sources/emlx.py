"""Apple Mail's ``.emlx``: a line with a length, a message of that many octets, a property list.

The property list's ``flags`` hold bits: 0 read, 1 deleted, 2 answered, 4 flagged, 6 draft, 8 forwarded.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.sources.content import Readable, Span

_BITS = {0: "\\Seen", 1: "\\Deleted", 2: "\\Answered", 4: "\\Flagged", 6: "\\Draft", 8: "$Forwarded"}
_LENGTH = re.compile(rb"[ \t]*([0-9]{1,12})[ \t]*\r?\n")
_LIST_LIMIT = 1024 * 1024


class Emlx(NamedTuple):
    """The message, its flags, and when it was received (Unix seconds, None if that is not told)."""

    content: Iterable[bytes]
    flags: list[str]
    when: int | None


def read_emlx(path: Readable) -> Emlx:
    """Take an .emlx file apart. Raises `BadInput` for another file, OSError."""
    with path.open("rb") as file:
        first = _LENGTH.match(file.read(64))
        if not first:
            raise BadInput("it does not begin with the length of a message")
        start = first.end()
        end = start + int(first[1])
        if end > path.stat().st_size:
            raise BadInput("it is shorter than its first line says")
        file.seek(end)
        flags, when = _properties(file.read(_LIST_LIMIT))
    return Emlx(Span(path, start, end), flags, when)


def _properties(text: bytes) -> tuple[list[str], int | None]:
    try:
        found = plistlib.loads(text.strip()) if text.strip() else {}
    except Exception as error:  # plistlib raises whatever its parsers do
        raise BadInput("its property list cannot be read") from error
    if not isinstance(found, dict):
        raise BadInput("its property list cannot be read")
    bits, when = found.get("flags", 0), found.get("date-received")
    bits = bits if isinstance(bits, int) else 0
    flags = [flag for bit, flag in _BITS.items() if bits >> bit & 1]
    return flags, int(when) if isinstance(when, int | float) else None
