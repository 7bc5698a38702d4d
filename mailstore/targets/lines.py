"""What a message's lines end in, counted in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class LineEnds(NamedTuple):
    """Octets of a message; LF, CR, and CRLF (which count as one of each, too) in it; its last octet."""

    size: int
    lf: int
    cr: int
    crlf: int
    last: bytes

    @property
    def size_as_crlf(self) -> int:
        """What the message takes with CRLF at the end of every line: Dovecot's virtual size."""
        return self.size + self.lf - self.crlf


def line_ends(content: Iterable[bytes]) -> LineEnds:
    """Count them."""
    size = lf = cr = crlf = 0
    last = b""
    for piece in content:
        if not piece:
            continue
        size += len(piece)
        lf += piece.count(b"\n")
        cr += piece.count(b"\r")
        crlf += piece.count(b"\r\n") + (last == b"\r" and piece.startswith(b"\n"))
        last = piece[-1:]
    return LineEnds(size, lf, cr, crlf, last)
