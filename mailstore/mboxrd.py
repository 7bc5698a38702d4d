"""How lines that look like postmarks are told from them inside an mbox (mboxrd): one ``>`` more in front.

>>> b"".join(quoted_pieces([b"From here\\n>From there\\n"]))
b'>From here\\n>>From there\\n'
>>> b"".join(unquoted_pieces([b">From he", b"re\\n>>Fro", b"m there\\n"]))
b'From here\\n>From there\\n'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


def quoted_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A text with LF or CRLF line ends, in pieces, as it stands in an mbox."""
    return _by_lines(pieces, _FROM, rb">\1")


def unquoted_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What `quoted_pieces` made."""
    return _by_lines(pieces, _QUOTED, rb"\1")


def _by_lines(pieces: Iterable[bytes], pattern: re.Pattern[bytes], new: bytes) -> Iterator[bytes]:
    """Replace `pattern` at the beginnings of lines, wherever the pieces are cut."""
    held = b""
    inside = False
    for piece in pieces:
        data = held + piece
        first = data.find(b"\n") + 1 if inside else 0
        if inside and not first:
            yield data
            continue
        before, data = data[:first], data[first:]
        data, held = _cut(data)
        inside = bool(data or before) and not (data or before).endswith(b"\n") and not held
        yield before + pattern.sub(new, data)
    yield pattern.sub(new, held) if held else b""


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """`data` without the beginning of a line at its end that may go on as a quoted postmark, and that.

    Of many ``>`` all but the last are given away: one more or less is done to any of them.
    """
    line = data[data.rfind(b"\n") + 1 :]
    found = re.fullmatch(rb">*(>?(?:F(?:r(?:om?)?)?)?)", line)
    if not line or not found:
        return data, b""
    kept = line.lstrip(b">")
    held = (b">" if len(kept) < len(line) else b"") + kept
    return data[: len(data) - len(held)], held
