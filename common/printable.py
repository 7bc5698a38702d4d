"""Text from outside, fit for a terminal and a log: what a stranger wrote moves no cursor and fakes no line.

>>> printable("a\\x1b[2Jb\\nc")
'a\\\\x1b[2Jb\\\\nc'
"""

from __future__ import annotations

import re

_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, line separators, what turns the direction of writing around, halves of characters."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with what no terminal should be sent written as ``\\x1b``; with `lines`, line feeds stay."""
    return _ODD.sub(lambda found: found[0] if lines and found[0] == "\n" else _escaped(found[0]), text)


def _escaped(one: str) -> str:
    short = _SHORT.get(one)
    if short is not None:
        return short
    return f"\\x{ord(one):02x}" if ord(one) < 256 else f"\\u{ord(one):04x}"
