"""Passing over the rest of a refused line: with every literal and file literal that it announces, or, where
they may be damaged, only if it announces none.

The rule guarded here: **content is never read as commands.** A line ends at an LF that does not belong to a
literal's head; the head of a file literal may itself hold literals (``%{default {40+}⏎…40 octets… 23}⏎``).
What is skipped need not be a dlist as a whole, so this only tells words, strings and literals apart. Where
a line ends like the head of a literal and is none (a quote too many, a blank too few), nobody can tell what
comes next: `dlist.OutOfStep`. It takes linear time and holds no more than a literal's head, however long
the line is.
"""

from __future__ import annotations

import re
from enum import Enum

from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.dlist_types import OutOfStep

_PLAIN = re.compile(
    rb"(?:[ \t\r\v\f()]++"
    rb'|[^ \t\r\n\v\f()"{%][^ \t\r\n\v\f()"]*+(?=[ \t\r\n\v\f()"])'
    rb'|%(?!\{)[^ \t\r\n\v\f()"]*+(?=[ \t\r\n\v\f()"])'
    rb'|\{[^ \t\r\n\v\f()"]*+(?=[ \t\v\f()"])'
    rb'|"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+){0,20}"){0,200}'
)
"""Blanks, and whole tokens that announce no content. One match passes over many of them: somebody who sends
a megabyte of short words must not cost seconds. It remembers every turn of a group, so there is an end."""
_WORD = re.compile(rb'[^ \t\r\n\v\f()"]*+')
_QUOTED = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+){0,200}')
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n")
_LITERAL_BEGUN = re.compile(rb"\{(?:[0-9]{1,10}(?:\+?(?:\}\r?)?)?)?")
_SIZE = re.compile(rb" ([0-9]{1,10})\}\r?\n")
_SIZE_BEGUN = re.compile(rb"(?: (?:[0-9]{1,10}(?:\}\r?)?)?)?")
_LINE_OR_BRACE = re.compile(rb"[\n{}]")
_DOUBTFUL = re.compile(rb"[0-9]\+?\}\r?\Z")
"""The end of a line that announces content, or means to."""

_LF, _QUOTE, _LBRACE, _PERCENT, _BACKSLASH, _BLANK = b'\n"{%\\ '


class _In(Enum):
    """Where in a line the skipper is; FILE_… is the head of a file literal."""

    BETWEEN = "between two tokens"
    FILE_PARTITION = "where the partition begins"
    FILE_BLANK = "behind the partition"
    FILE_GUID = "where the GUID begins"
    FILE_SIZE = "behind the GUID"


_AFTER_ASTRING = {_In.FILE_PARTITION: _In.FILE_BLANK, _In.FILE_GUID: _In.FILE_SIZE}
_WAIT = -1


class PlainLine:
    """Consumes the rest of a line that is no dlist. A brace in it may be what is left of a head that
    announced content: `OutOfStep`. With `literals` it may have whole literals."""

    def __init__(self, *, literals: bool = False) -> None:
        self._literals = literals
        self._content = 0
        self._before = b" "
        """The octet that was passed over last."""

    def feed(self, buffer: Buffer) -> bool:
        """True once the line is all gone."""
        while True:
            self._content -= buffer.drop(self._content)
            if self._content or not buffer:
                return False
            end = _LINE_OR_BRACE.search(buffer.data, buffer.pos)
            passed = buffer.take((end.start() if end else len(buffer.data)) - buffer.pos)
            self._before = passed[-1:] or self._before
            if end is None:
                return False
            if end.group() == b"\n":
                buffer.pos += 1
                return True
            head = _LITERAL.match(buffer.data, buffer.pos)
            if (
                not self._literals
                or self._before not in b" ("
                or (head is None and not _LITERAL_BEGUN.fullmatch(buffer.data, buffer.pos))
            ):
                raise OutOfStep()
            if head is None:
                return False
            buffer.pos = head.end()
            self._content = int(head[1])
            self._before = b""


class LineSkipper:
    """Consumes the rest of a line. `feed` is True once it is all gone; it may raise `OutOfStep`."""

    def __init__(self) -> None:
        self._place = _In.BETWEEN
        self._in_word = False
        self._in_quotes = False
        self._content = 0
        self._last = b""
        """The last bytes that were passed over, content apart."""
        self._done = False

    def feed(self, buffer: Buffer) -> bool:
        while not self._done:
            self._content -= buffer.drop(self._content)
            if self._content or not buffer:
                return False
            after = self._step(buffer.data, buffer.pos)
            if after == _WAIT:
                return False
            seen = memoryview(buffer.data)[max(buffer.pos, after - 4) : after]
            self._last = (self._last + bytes(seen))[-4:]
            del seen
            buffer.pos = after
        return True

    def _step(self, data: bytearray, pos: int) -> int:
        if self._in_word:
            return self._word(data, pos)
        if self._in_quotes:
            return self._quoted(data, pos)
        if self._place is _In.FILE_SIZE:
            return self._size(data, pos)
        byte = data[pos]
        if self._place is _In.FILE_BLANK:
            self._place = _In.FILE_GUID if byte == _BLANK else _In.BETWEEN
            return pos + (byte == _BLANK)
        if self._place is _In.BETWEEN:
            match = _PLAIN.match(data, pos)
            if match is not None and match.end() > pos:
                return match.end()
            if byte == _LF:
                if _DOUBTFUL.search(self._last):
                    raise OutOfStep()
                self._done = True
                return pos + 1
            if byte == _PERCENT:
                if pos + 1 == len(data):
                    return _WAIT
                if data[pos + 1] == _LBRACE:
                    self._place = _In.FILE_PARTITION
                    return pos + 2
        elif byte in b" \t\r\n\v\f()":
            self._place = _In.BETWEEN
            return pos
        if byte == _QUOTE:
            self._in_quotes = True
            return pos + 1
        if byte == _LBRACE:
            return self._literal(data, pos)
        self._in_word = True
        return pos

    def _astring_read(self) -> None:
        self._in_word = self._in_quotes = False
        self._place = _AFTER_ASTRING.get(self._place, _In.BETWEEN)

    def _word(self, data: bytearray, pos: int) -> int:
        match = _WORD.match(data, pos)
        assert match is not None
        if match.end() < len(data):
            self._astring_read()
        return match.end()

    def _quoted(self, data: bytearray, pos: int) -> int:
        match = _QUOTED.match(data, pos)
        assert match is not None
        end = match.end()
        if end == len(data):
            return end
        if data[end] == _QUOTE:
            self._astring_read()
            return end + 1
        if data[end] == _BACKSLASH:
            if end + 1 == len(data):
                return end if end > pos else _WAIT
            if data[end + 1] != _LF:
                return end  # more escapes than one match takes
            end += 1
        self._in_quotes = False  # the line ends inside the quotes
        self._place = _In.BETWEEN
        return end

    def _literal(self, data: bytearray, pos: int) -> int:
        head = _LITERAL.match(data, pos)
        if head is not None:
            self._astring_read()
            self._content = int(head[1])
            return head.end()
        if _LITERAL_BEGUN.fullmatch(data, pos):
            return _WAIT
        self._place = _In.BETWEEN
        self._in_word = True
        return pos

    def _size(self, data: bytearray, pos: int) -> int:
        tail = _SIZE.match(data, pos)
        if tail is None and _SIZE_BEGUN.fullmatch(data, pos):
            return _WAIT
        self._place = _In.BETWEEN
        if tail is None:
            return pos
        self._content = int(tail[1])
        return tail.end()
