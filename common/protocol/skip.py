"""Passing over the rest of a refused line, with every literal and file literal that it announces.

The rule guarded here: content is never read as commands. A line ends at an LF that does not belong to a
literal's head; the head of a file literal may itself hold literals (``%{default {40+}⏎…40 octets… 23}⏎``).
Memory stays bounded: of a line without an end only its tail is kept.
"""

from __future__ import annotations

import re

from common.protocol.buffer import Buffer

_TAIL = 4096
"""How much of an unfinished line is kept. Heads of literals that real peers send are below 200 bytes."""

_ASTRING = rb'(?:[^ \t\r\n\v\f()"{][^ \t\r\n\v\f()"]*+|"(?:[^"\\]|\\.)*+")'
_LITERAL = re.compile(rb"(?:^|(?<=[ \t\v\f(){\"]))\{([0-9]{1,10})\+?\}\r$")
_FILE = re.compile(rb"%%\{%s %s ([0-9]{1,10})\}\r?$" % (_ASTRING, _ASTRING))
_FILE_BEGUN = re.compile(rb"%%\{(?:%s )?$" % _ASTRING)
_FILE_REST = re.compile(rb"(?: %s)? ([0-9]{1,10})\}\r?$" % _ASTRING)


class LineSkipper:
    """Consumes the rest of a line. `feed` is True once it is all gone.

    `in_file`: what is skipped begins inside the head of a file literal.
    """

    def __init__(self, in_file: bool = False) -> None:
        self._in_file = in_file
        self._content = 0
        self._searched = 0

    def feed(self, buffer: Buffer) -> bool:
        while True:
            self._content -= buffer.drop(self._content)
            if self._content:
                return False
            end = buffer.data.find(b"\n", buffer.pos + self._searched)
            if end < 0:
                self._keep_tail(buffer)
                return False
            head = bytes(memoryview(buffer.data)[max(buffer.pos, end - _TAIL) : end])
            buffer.pos = end + 1
            self._searched = 0
            content = self._announced(head)
            if content is None:
                return True
            self._content = content

    def _keep_tail(self, buffer: Buffer) -> None:
        surplus = len(buffer) - _TAIL
        if surplus > 0:
            buffer.drop(surplus)
        self._searched = len(buffer)

    def _announced(self, head: bytes) -> int | None:
        """Octets of the literal that a segment ending with `head` announces, None for none."""
        literal = _LITERAL.search(head)
        if literal:
            before = head[: literal.start()]
            self._in_file = before == b" " if self._in_file else _FILE_BEGUN.search(before) is not None
            return int(literal[1])
        file = _FILE_REST.match(head) if self._in_file else None
        file = file or _FILE.search(head)
        self._in_file = False
        return int(file[1]) if file else None
