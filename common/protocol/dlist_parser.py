"""Reading a dlist value from a buffer that grows.

The rule guarded here: what is read takes time linear in its length however it is cut into pieces, memory
bounded by `Limits`, no recursion, and where an error is found does not depend on the pieces. Compiled
patterns walk the buffer; there is one step a token, and one for a whole run of bare words.
"""

from __future__ import annotations

import enum
import re
from dataclasses import field
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.protocol.astring import AstringReader
from cyrus_sync.common.protocol.dlist_types import (
    DEFAULT_LIMITS,
    MAX_FILE,
    File,
    Flag,
    Limits,
    ParseError,
    TooLong,
    Value,
)

_SPACE = re.compile(rb"[ \t\r\n\v\f]*+")
_SPACE_IN_LINE = re.compile(rb"[ \t\r\v\f]*+")
_FILE_TAIL = re.compile(rb" ([0-9]{1,10})\}\r?\n")
_FILE_TAIL_BEGUN = re.compile(rb" ?|(?: [0-9]{1,10}(?:\}\r?)?)")
_WORD = rb'[^ \t\r\n\v\f()"%\\{][^ \t\r\n\v\f()"]*+ '
_RUN = re.compile(rb"(?:%s){1,200}" % _WORD)
"""Bare words with one space behind each: most of what long lists consist of."""
_PAIRS = re.compile(rb"(?:%s%s){1,100}" % (_WORD, _WORD))

_LPAREN, _RPAREN, _LBRACE = b"("[0], b")"[0], b"{"[0]
_PERCENT, _QUOTE, _BACKSLASH, _BLANK = b"%"[0], b'"'[0], b"\\"[0], b" "[0]

_UNFINISHED = -1


class Files(enum.Enum):
    """What a parser does with the bytes of a file literal."""

    KEEP = "keep"
    SKIP = "skip"
    STREAM = "stream"
    """Stop in front of them (`Status.FILE`); the caller takes them out of the buffer. Stop also behind every
    other item of an outermost list (`Status.ITEM`)."""


class Status(enum.Enum):
    """Why `Parser.feed` came back."""

    MORE = "more"
    DONE = "done"
    FILE = "file"
    """`Parser.file` is announced and its bytes come next. Call `file_taken` after them."""
    ITEM = "item"
    """An item of the outermost list has been read, see `Files.STREAM`."""
    STREAM = "stream"
    """The list under the streamed key has begun; the caller consumes it, closing parenthesis included."""


@dataclass(slots=True)
class Parser:
    """Reads one value.

    `feed` goes as far as the buffer does and remembers where it was; the bytes before the position that
    it returns may be dropped. With `stream_key`, a list under that key of the outermost kvlist is left to
    the caller. With `one_line` a line end is no blank. After an error, `position` is where reading stopped
    and `in_file_head` tells whether that was inside the head of a file literal.
    """

    limits: Limits = DEFAULT_LIMITS
    files: Files = Files.KEEP
    stream_key: bytes | None = None
    one_line: bool = False
    status: Status = Status.MORE
    value: Value = None
    file: File | None = None
    position: int = 0
    _stack: list[Any] = field(default_factory=list)
    _current: Any = None
    _key: bytes | None = None
    _astring: AstringReader = field(init=False)
    _stops: bool = field(init=False)
    """Whether behind each item of an outermost list, see `Files.STREAM`."""
    _skip: int = 0
    """Bytes of a file still to be passed over."""
    _file_parts: list[bytes] | None = None
    """Partition, then GUID, of the file literal whose head is being read."""
    items: int = 0
    """Words, strings and lists read so far."""
    used: int = 0
    """Octets read so far, streamed records and file literals apart."""
    _end: int = 0
    """Where in the buffer the value is too large."""

    def __post_init__(self) -> None:
        self._astring = AstringReader(self.limits)
        self._stops = self.files is Files.STREAM

    @property
    def content(self) -> bool:
        """Whether a literal or a file literal has been read."""
        return self.file is not None or self._astring.content

    @property
    def in_file_head(self) -> bool:
        """True within the head of a file literal."""
        return self._file_parts is not None

    @property
    def braces(self) -> bool:
        """Whether a word or string of what has been read has a brace in it. Takes time for all of it."""
        return has_braces(self.value) or has_braces(self._key)

    @property
    def between_items(self) -> bool:
        """True in an outermost list, between two of its items."""
        within = self._astring.begun or self._skip or self._file_parts is not None
        return self._in_outermost_list() and not within

    def feed(self, buffer: bytes | bytearray, pos: int) -> int:
        """Read on at `pos`; the position after what was consumed. Look at `status` then.

        Raises `ParseError`, or `TooLong` where a connection cannot be kept in step.
        """
        self.status = Status.MORE
        self._end = pos + self.limits.max_value - self.used
        size = len(buffer)
        space = _SPACE_IN_LINE if self.one_line else _SPACE
        while True:
            if self._skip:
                taken = min(self._skip, size - pos)
                pos += taken
                self._end += taken
                self._skip -= taken
                if self._skip == 0 and self._current is None:
                    self.status = Status.DONE
                    break
            if pos >= size:
                break
            self.position = pos
            if self._file_parts is not None:
                after = self._file_part(buffer, pos, self._file_parts)
            else:
                if not self._astring.begun:
                    match = space.match(buffer, pos)
                    assert match is not None
                    self.position = pos = match.end()
                    if pos >= size:
                        break
                after = self._token(buffer, pos)
            if after == _UNFINISHED:
                break
            self.position = pos = after
            if pos > self._end:
                raise ParseError("value too large")
            if self.status is not Status.MORE:
                break
        self.used = self.limits.max_value - (self._end - pos)
        return pos

    def file_taken(self) -> None:
        """The bytes of `file` are gone from the buffer. In an outermost list it leaves no item."""
        if not self._in_outermost_list():
            self._put(self.file)

    # -- tokens: each returns the position after what it consumed, or _UNFINISHED

    def _token(self, buffer: bytes | bytearray, pos: int) -> int:
        byte = buffer[pos]
        if byte == _RPAREN:
            return self._close(pos)
        if type(self._current) is dict and self._key is None:
            return self._keys(buffer, pos)
        if byte == _LPAREN:
            if self._key is not None and self._key == self.stream_key and self._streams():
                self._put([])
                self.status = Status.STREAM
            else:
                self._open([])
            return pos + 1
        if byte == _PERCENT:
            return self._percent(buffer, pos)
        return self._atoms(buffer, pos, byte)

    def _close(self, pos: int) -> int:
        if self._current is None or self._key is not None:
            raise ParseError("value missing")
        self._current = self._stack.pop()
        if self._current is None:
            self.status = Status.DONE
        elif self._stops and self._in_outermost_list():
            self.status = Status.ITEM
        return pos + 1

    def _open(self, container: list[Any] | dict[bytes, Any]) -> None:
        if len(self._stack) >= self.limits.max_depth:
            raise ParseError("nested too deeply")
        outer = self._current
        self._put(container)
        self.status = Status.MORE
        self._stack.append(outer)
        self._current = container

    def _in_outermost_list(self) -> bool:
        return len(self._stack) == 1 and type(self._current) is list

    def _streams(self) -> bool:
        return len(self._stack) == 1 and self._key not in self._current

    def _put(self, value: Value) -> None:
        """Give `value` its place; outermost, it is the end."""
        if self._current is None:
            self.value = value
            self.status = Status.DONE
            return
        self._count(1)
        if type(self._current) is list:
            self._current.append(value)
            if self._stops and self._in_outermost_list():
                self.status = Status.ITEM
        else:
            self._current.setdefault(self._key, value)
            self._key = None

    def _count(self, items: int) -> None:
        self.items += items
        if self.items > self.limits.max_items:
            raise ParseError("too many items")

    def _keys(self, buffer: bytes | bytearray, pos: int) -> int:
        """A key; or a run of keys and values that are all bare words."""
        if not self._astring.begun:
            run = _PAIRS.match(buffer, pos, self._end)
            if run:
                words = self._words(run.group(), 2)
                for key, value in zip(words[::2], words[1::2], strict=True):
                    self._current.setdefault(b"NIL" if key is None else key, value)
                return run.end()
        found = self._astring.read(buffer, pos)
        if found is None:
            return _UNFINISHED
        self._key, after = found
        return after

    def _atoms(self, buffer: bytes | bytearray, pos: int, byte: int) -> int:
        """An atom, flag, string; or in a list a run of bare words."""
        if type(self._current) is list and not self._astring.begun and not self._stops:
            run = _RUN.match(buffer, pos, self._end)
            if run:
                self._current += self._words(run.group(), 1)
                return run.end()
        found = self._astring.read(buffer, pos)
        if found is None:
            return _UNFINISHED
        text, after = found
        if byte == _BACKSLASH:
            self._put(Flag(text))
        elif text == b"NIL" and byte not in (_QUOTE, _LBRACE):
            self._put(None)
        else:
            self._put(text)
        return after

    def _words(self, run: bytes, words_per_item: int) -> list[Any]:
        words: list[Any] = run.split()
        if len(run) > self.limits.max_word:
            room = self.limits.max_items - self.items + 1
            if max(map(len, words[: room * words_per_item])) > self.limits.max_word:
                raise TooLong()
        self._count(len(words) // words_per_item)
        if b"NIL" in run:
            words = [None if word == b"NIL" else word for word in words]
        return words

    # -- file literals

    def _percent(self, buffer: bytes | bytearray, pos: int) -> int:
        if pos + 1 == len(buffer):
            return _UNFINISHED
        kind = buffer[pos + 1]
        if kind == _LPAREN:
            self._open({})
        elif kind == _LBRACE:
            self._file_parts = []
        else:
            raise ParseError("unknown kind of value")
        return pos + 2

    def _file_part(self, buffer: bytes | bytearray, pos: int, parts: list[bytes]) -> int:
        if len(parts) == 2:
            return self._file_size(buffer, pos, parts)
        if len(parts) == 3:
            return self._file_content(buffer, pos)
        begin = pos + len(parts)  # one blank stands before the GUID
        if parts and buffer[pos] != _BLANK:
            raise ParseError("bad file literal")
        found = self._astring.read(buffer, begin)
        if found is None:
            return _UNFINISHED
        text, after = found
        parts.append(text)
        return after

    def _file_size(self, buffer: bytes | bytearray, pos: int, parts: list[bytes]) -> int:
        tail = _FILE_TAIL.match(buffer, pos)
        if tail is None:
            if _FILE_TAIL_BEGUN.fullmatch(buffer, pos):
                return _UNFINISHED
            raise ParseError("bad file literal")
        size = int(tail[1])
        if size > MAX_FILE:
            raise TooLong("file too large")
        self.file = File(parts[0], parts[1], size)
        if self.files is Files.KEEP and size:
            if size > self.limits.max_value:
                raise ParseError("value too large")
            parts.append(tail[1])
            return tail.end()
        self._file_parts = None
        if self.files is Files.STREAM:
            self.status = Status.FILE
        elif self.files is Files.SKIP and size:
            self._put(self.file)
            self.status = Status.MORE
            self._skip = size
        else:
            self._put(File(parts[0], parts[1], size, b"" if self.files is Files.KEEP else None))
        return tail.end()

    def _file_content(self, buffer: bytes | bytearray, pos: int) -> int:
        assert self.file is not None
        end = pos + self.file.size
        if len(buffer) < end:
            return _UNFINISHED
        self._file_parts = None
        self._put(File(self.file.partition, self.file.guid, self.file.size, bytes(buffer[pos:end])))
        return end


def has_braces(value: Value) -> bool:
    """Whether a word or string in `value` has a brace in it: it may be what is left of a head that announced
    content."""
    if isinstance(value, bytes):
        return b"{" in value or b"}" in value
    if isinstance(value, list):
        return any(map(has_braces, value))
    return isinstance(value, dict) and any(map(has_braces, (*value, *value.values())))
