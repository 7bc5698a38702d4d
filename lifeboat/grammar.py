"""IMAP commands out of octets, without I/O: `Framer` finds where a command ends, `Cursor` reads in it.

A command is a line, and goes on behind every literal that the line announces (RFC 3501, 4.3; RFC 7888).
Before a literal is let in, whoever reads the events decides about it.

>>> framer = Framer()
>>> framer.feed(b"a1 LOGIN {5}\\r\\n")
[Literal(head=b'a1 LOGIN {5}', size=5)]
>>> framer.accept()
>>> framer.feed(b"alice secret\\r\\n")
[Line(data=b'a1 LOGIN {5}\\r\\nalice secret')]
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 64 * 1024
"""Octets of a command with its literals."""

_LITERAL = re.compile(rb"\{(\d{1,10})(\+?)\}\Z")
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING = re.compile(rb"[^\x00-\x20\x7f(){%*\"\\]+")
"""8-bit letters, which RFC 3501 does not allow, are taken as Cyrus takes them."""

_PATTERN = re.compile(rb"[^\x00-\x20\x7f(){\"\\]+")
_QUOTED = re.compile(rb"\"((?:[^\"\\\r\n]|\\[\"\\])*)\"")
_INLINE = re.compile(rb"\{(\d{1,10})\+?\}\r?\n")
_NUMBER = re.compile(rb"\d{1,20}")
_SET = re.compile(rb"[\d:*,]+")


class BadCommand(Exception):
    """What was said is no command; the text is for a tagged ``BAD``."""


class Line(NamedTuple):
    """A whole command, literals in their places, without the last CRLF."""

    data: bytes


class Literal(NamedTuple):
    """A command asks to go on with a literal of `size` octets: `Framer.accept` or `Framer.refuse` it."""

    head: bytes
    size: int


class Overflow(NamedTuple):
    """A command beyond all bounds: nothing after it can be understood, and nothing more comes."""


Event = Line | Literal | Overflow


class Framer:
    """Octets in, events out. After a `Literal` nothing more comes until it is decided about."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._buffer = bytearray()
        self._line = 0
        """Where the line begins that is being read: behind the last literal of its command."""
        self._asked: int | None = None
        self._lost = False

    def feed(self, data: bytes) -> list[Event]:
        """What can be said after `data`; call with b"" after a decision about a literal."""
        if not self._lost:
            self._buffer += data
        events: list[Event] = []
        while self._asked is None and not self._lost:
            event = self._next()
            if event is None:
                break
            events.append(event)
            self._lost = isinstance(event, Overflow)
        return events

    def _next(self) -> Event | None:
        end = self._buffer.find(b"\n", self._line)
        if end < 0:
            return Overflow() if len(self._buffer) > self._longest else None
        line_end = end - 1 if end > self._line and self._buffer[end - 1] == 0x0D else end
        found = _LITERAL.search(bytes(self._buffer[max(self._line, line_end - 14) : line_end]))
        if found is None:
            data = bytes(self._buffer[:line_end])
            del self._buffer[: end + 1]
            self._line = 0
            return Line(data) if len(data) <= self._longest else Overflow()
        size = int(found[1])
        if found[2]:
            if end + 1 + size > self._longest:
                return Overflow()
            self._line = end + 1 + size
            return self._next() if len(self._buffer) >= self._line else None
        self._asked = end + 1 + size
        return Literal(bytes(self._buffer[:line_end]), size)

    def accept(self) -> None:
        """The literal that was asked for may come."""
        if self._asked is not None:
            self._line, self._asked = self._asked, None

    def refuse(self) -> None:
        """Nothing comes of the command that asked; the client does not send the literal."""
        if self._asked is not None:
            del self._buffer[: self._buffer.find(b"\n", self._line) + 1]
            self._line, self._asked = 0, None

    def begun(self) -> bytes:
        """What has come and is no command yet."""
        return bytes(self._buffer)


class Cursor:
    """A place in a command. Every reading raises `BadCommand` where something else stands."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def end(self) -> None:
        """Nothing may follow."""
        if not self.at_end:
            raise BadCommand("Unexpected extra arguments")

    def next_is(self, text: bytes) -> bool:
        """Whether `text` stands here, in any case."""
        return self._data[self._at : self._at + len(text)].upper() == text

    def skip(self, text: bytes) -> bool:
        """Pass over `text` if it stands here."""
        if not self.next_is(text):
            return False
        self._at += len(text)
        return True

    def expect(self, text: bytes) -> None:
        if not self.skip(text):
            raise BadCommand(f"Missing {text.decode()!r}")

    def space(self) -> None:
        """The blank between two arguments."""
        if not self.skip(b" "):
            raise BadCommand("Missing required argument")

    def atom(self) -> bytes:
        """An atom in upper case: keywords are read in any."""
        return self._take(_ATOM, "atom")[0].upper()

    def number(self) -> int:
        return int(self._take(_NUMBER, "number")[0])

    def sequence_set(self) -> bytes:
        return self._take(_SET, "sequence set")[0]

    def astring(self) -> bytes:
        """An atom, a quoted string or a literal."""
        return self._string(_ASTRING)

    def pattern(self) -> bytes:
        """The name of a mailbox with wildcards (list-mailbox)."""
        return self._string(_PATTERN)

    def rest(self) -> bytes:
        """All that is left, as it is."""
        start, self._at = self._at, len(self._data)
        return self._data[start:]

    def string_list(self) -> list[bytes]:
        """``(a "b" {1}c)``"""
        self.expect(b"(")
        found = [self.astring()]
        while self.skip(b" "):
            found.append(self.astring())
        self.expect(b")")
        return found

    def _string(self, bare: re.Pattern[bytes]) -> bytes:
        if self.next_is(b'"'):
            return re.sub(rb"\\(.)", rb"\1", self._take(_QUOTED, "quoted string")[1])
        if self.next_is(b"{"):
            size = int(self._take(_INLINE, "literal")[1])
            start, self._at = self._at, self._at + size
            if self._at > len(self._data):
                raise BadCommand("Invalid literal")
            return self._data[start : self._at]
        return self._take(bare, "string")[0]

    def _take(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self._data, self._at)
        if found is None:
            raise BadCommand(f"Missing or invalid {what}")
        self._at = found.end()
        return found


def quoted(text: bytes | str) -> bytes:
    """A string for an answer: quoted, or as a literal where that is not allowed.

    >>> quoted('say "hi"'), quoted("Grüße")
    (b'"say \\\\"hi\\\\""', b'{7}\\r\\nGr\\xc3\\xbc\\xc3\\x9fe')
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if len(data) > 1024 or not data.isascii() or b"\r" in data or b"\n" in data or b"\0" in data:
        return b"{%d}\r\n%b" % (len(data), data)
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def nstring(text: bytes | str | None) -> bytes:
    """A string, or ``NIL``."""
    return b"NIL" if text is None else quoted(text)
