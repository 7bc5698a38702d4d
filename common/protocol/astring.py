"""Reading a word, a quoted string or a literal from a buffer that grows.

As in `dlist_parser`, what is read takes time linear in its length however it is cut into pieces.
"""

from __future__ import annotations

import re

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.protocol.dlist_types import DEFAULT_LIMITS, Limits, ParseError, TooLong

_WORD_END = re.compile(rb'[ \t\r\n\v\f()"]')
_QUOTED = re.compile(rb'[^"\\\r\n]*+(?:\\[\x00-\xff][^"\\\r\n]*+){0,200}')
"""A match remembers every turn of a group, so groups have few turns; after those one matches again."""
_ESCAPE = re.compile(rb"\\([\x00-\xff])")
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n")
_LITERAL_BEGUN = re.compile(rb"\{[0-9]{0,10}(?:(?<=[0-9])\+?(?:\}\r?)?)?")
_LBRACE, _QUOTE, _BACKSLASH = b"{"[0], b'"'[0], b"\\"[0]


@dataclass(slots=True)
class AstringReader:
    """Reads a word, quoted string or literal; one instance reads one after another."""

    limits: Limits = DEFAULT_LIMITS
    _scanned: int = 0
    """Bytes of an unfinished word or quoted string in which its end is known not to be."""
    _need: int = 0
    """Bytes that must be there before another look at a literal is worth it."""
    content: bool = False
    """Whether a literal has been read: octets that may be anything."""

    @property
    def begun(self) -> bool:
        """True in the middle of one."""
        return bool(self._scanned or self._need)

    def read(self, buffer: bytes | bytearray, pos: int) -> tuple[bytes, int] | None:
        """The text at `pos` and the position after it, None while it is unfinished."""
        if pos >= len(buffer) or len(buffer) - pos < self._need:
            return None
        byte = buffer[pos]
        if byte == _QUOTE:
            return self._quoted(buffer, pos)
        if byte == _LBRACE:
            return self._literal(buffer, pos)
        end = _WORD_END.search(buffer, pos + self._scanned)
        length = (end.start() if end else len(buffer)) - pos
        if length > self.limits.max_word:
            raise TooLong()
        if end is None:
            self._scanned = length
            return None
        if not length:
            raise ParseError("word missing")
        self._scanned = 0
        return bytes(buffer[pos : pos + length]), pos + length

    def _quoted(self, buffer: bytes | bytearray, pos: int) -> tuple[bytes, int] | None:
        end = pos + (self._scanned or 1)
        while True:
            match = _QUOTED.match(buffer, end)
            assert match is not None
            end = match.end()
            if end - pos - 1 > self.limits.max_quoted:
                raise TooLong("quoted string too long")
            if end == len(buffer) or (buffer[end] == _BACKSLASH and end + 1 == len(buffer)):
                self._scanned = end - pos
                return None
            if buffer[end] != _BACKSLASH:
                break
        if buffer[end] != _QUOTE:
            raise ParseError("unfinished quoted string")
        self._scanned = 0
        text = bytes(buffer[pos + 1 : end])
        return (_ESCAPE.sub(rb"\1", text) if b"\\" in text else text), end + 1

    def _literal(self, buffer: bytes | bytearray, pos: int) -> tuple[bytes, int] | None:
        head = _LITERAL.match(buffer, pos)
        if head is None:
            if not _LITERAL_BEGUN.fullmatch(buffer, pos):
                raise ParseError("bad literal")
            self._need = len(buffer) - pos + 1
            return None
        size = int(head[1])
        if size > self.limits.max_literal:
            raise TooLong("literal too large")
        end = head.end() + size
        if len(buffer) < end:
            self._need = end - pos
            return None
        self._need = 0
        self.content = True
        return bytes(buffer[head.end() : end]), end
