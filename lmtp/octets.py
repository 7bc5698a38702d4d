"""`Octets`: what a client has sent, as lines, as a message, or as a part of one that has a length. No I/O.

A message ends with CRLF . CRLF and nothing else. A real lmtpd takes LF . LF, too; then a message that has it
in it ends early, and its rest is read as commands. For the same reason a dot is taken away behind CRLF alone.
What is inside becomes what a store keeps: each LF is a CRLF, a CR alone is dropped (as lmtpd does it).

>>> octets = Octets(); octets.add(b"DATA\\r\\na\\nb\\r\\n..c\\r\\n.\\r\\nQUIT\\r\\n")
>>> octets.line(), octets.begin_message(), octets.piece(), octets.piece() == END, octets.line()
(b'DATA', None, b'a\\r\\nb\\r\\n.c\\r\\n', True, b'QUIT')
"""

from __future__ import annotations

import re

MAX_LINE = 21850
"""Octets of a command: what SASL may need. Without it RFC 5321 wants 512, and a few for parameters."""

PIECE = 64 * 1024
"""Octets that are waited for before a part of a message is given away."""

END = b""
"""What `Octets.piece` and `Octets.counted` give where the message, or the part of one, is over."""

_STOP = b"\r\n.\r\n"
_LONE_CR = re.compile(rb"\r(?!\n)")
_LONE_LF = re.compile(rb"(?<!\r)\n")


class LineTooLong(Exception):
    """A command of more than `MAX_LINE` octets; what follows its end is read as usual."""


class Octets:
    """Lines, until `begin_message`; then the pieces of one message, until `END`. After `begin_part` so many
    octets as they are, until `END`."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0
        """So far there is no end in what is held."""
        self._too_long = False
        self._virtual = 0
        """Octets in front of a message that nobody has sent: its first line begins behind CRLF, too."""
        self._left = 0
        """Octets that are still to come of a part that has a length."""
        self.received = 0
        """Octets of the message so far, whatever is kept of them; dots put in front do not count."""

    def __len__(self) -> int:
        return len(self._held)

    def add(self, data: bytes) -> None:
        self._held += data

    # -- lines

    def line(self) -> bytes | None:
        """The next line without its end (CRLF, or LF alone), None if more is needed. Raises `LineTooLong`."""
        end = self._held.find(b"\n", self._looked)
        if end < 0:
            self._looked = len(self._held)
            if self._looked > MAX_LINE:
                self._held.clear()
                self._looked = 0
                self._too_long = True
            return None
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        self._looked = 0
        if self._too_long or end > MAX_LINE:
            self._too_long = False
            raise LineTooLong()
        return line.removesuffix(b"\r")

    def next_begins_with(self, word: bytes) -> bool:
        """Whether a whole line is held that begins with `word`, in capitals or not."""
        start = bytes(self._held[: len(word)])
        return start.upper() == word and b"\n" in self._held

    # -- a message

    def begin_message(self) -> None:
        """What comes now is a message."""
        self._held[:0] = b"\r\n"
        self._virtual = 2
        self._looked = 0
        self.received = 0

    def piece(self) -> bytes | None:
        """A part of the message as it is kept; `END` behind the last; None if more is needed."""
        held = self._held
        if self._looked < 0:  # the end was found with the last part
            self._looked = 0
            return END
        end = held.find(_STOP, self._looked)
        if end >= 0:
            raw = bytes(held[: end + 2])
            del held[: end + len(_STOP)]
            self._looked = -1
            return self._kept(raw) or self.piece()
        self._looked = max(0, len(held) - len(_STOP) + 1)
        if len(held) < PIECE:
            return None
        cut = held.rfind(b"\r\n")
        if cut <= 0:  # one long line
            cut = len(held) - held.endswith(b"\r")
        raw = bytes(held[:cut])
        del held[:cut]
        self._looked = max(0, len(held) - len(_STOP) + 1)
        return self._kept(raw) or self.piece()

    def _kept(self, raw: bytes) -> bytes:
        """`raw` begins with the end of a line, or in the midst of one, and no CRLF is cut in two."""
        kept = raw.replace(b"\r\n.", b"\r\n")[self._virtual :]
        self._virtual = 0
        self.received += len(kept)
        return _with_line_ends(kept)

    # -- a part of a message, with its length (RFC 3030)

    def begin_part(self, size: int) -> None:
        """What comes now are `size` octets of a message."""
        self._left = size
        self._looked = 0

    def counted(self) -> bytes | None:
        """The next octets of the part as they are; `END` behind the last; None if more is needed."""
        if not self._left:
            return END
        if not self._held:
            return None
        raw = bytes(self._held[: min(self._left, PIECE)])
        del self._held[: len(raw)]
        self._left -= len(raw)
        return raw


class LineEnds:
    """A message that comes in parts, as a store keeps it: what `Octets.piece` does for one that comes as
    lines. Its last line has an end, too.

    >>> ends = LineEnds(); ends.add(b"a\\r"), ends.add(b"\\nb\\n"), ends.add(b"c"), ends.end()
    (b'a', b'\\r\\nb\\r\\n', b'c', b'\\r\\n')
    """

    def __init__(self) -> None:
        self._cr = b""
        """A CR at the end of what has come: whether an LF follows is not known yet."""
        self._last = b"\n"

    def add(self, raw: bytes) -> bytes:
        """What is kept of it; what is left may come with the next."""
        raw = self._cr + raw
        self._cr = b"\r" if raw.endswith(b"\r") else b""
        kept = _with_line_ends(raw.removesuffix(b"\r"))
        self._last = kept[-1:] or self._last
        return kept

    def end(self) -> bytes:
        """What the message still lacks."""
        return b"" if self._last == b"\n" else b"\r\n"


def _with_line_ends(raw: bytes) -> bytes:
    """No CRLF is cut in two at either end of it."""
    lines = raw.count(b"\n")
    if raw.count(b"\r\n") != lines or raw.count(b"\r") != lines:
        return _LONE_LF.sub(b"\r\n", _LONE_CR.sub(b"", raw))
    return raw
