"""A message as a tree of its parts (RFC 2045, 2046), each with the place of its octets: nothing is copied,
nothing is written anew.

Whatever a message is, it has a tree: what is no MIME is text, what nests deeper than `DEEPEST` or has more
than `MOST` parts is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

DEEPEST = 50
MOST = 5000

_HEADER_END = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:((?:[^\n]*\n[ \t])*[^\n]*(?:\n|\Z))")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_TYPE = re.compile(rb"\s*([^\s/;\"()<>@,]+)\s*/\s*([^\s;\"()<>@,]+)")
_PARAMETER = re.compile(rb";\s*([^\s=;]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;\s]*))", re.DOTALL)
_WORD = re.compile(rb"\s*([^\s;]+)")
_COMMENT = re.compile(rb"\((?:[^()\\\"]|\\.)*\)")


@dataclass(slots=True)
class Part:
    """A part of a message, or the message itself. `start`, `body` and `end` are places in `data`: where its
    header begins, where its content does, and where that ends."""

    data: bytes
    start: int
    body: int
    end: int
    type: bytes = b"TEXT"
    subtype: bytes = b"PLAIN"
    parameters: Sequence[tuple[bytes, bytes]] = ((b"CHARSET", b"us-ascii"),)
    parts: list[Part] = field(default_factory=list)
    """The parts of a multipart; of a message/rfc822, that message."""

    @property
    def multipart(self) -> bool:
        return self.type == b"MULTIPART" and bool(self.parts)

    @property
    def message(self) -> Part | None:
        """The message in a message/rfc822."""
        return self.parts[0] if self.type == b"MESSAGE" and self.parts else None

    @property
    def header(self) -> bytes:
        """With the empty line that ends it."""
        return self.data[self.start : self.body]

    @property
    def content(self) -> bytes:
        return self.data[self.body : self.end]

    @property
    def size(self) -> int:
        """Octets of the content."""
        return self.end - self.body

    @property
    def lines(self) -> int:
        return self.data.count(b"\n", self.body, self.end)

    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """The header's fields in their order: (name in lower case, all of it with its last CRLF)."""
        for found in _FIELD.finditer(self.data, self.start, self.body):
            yield found[1].lower(), found[0]

    def value(self, name: bytes) -> bytes | None:
        """The first field of this name (lower case), unfolded; None if there is none."""
        for found in _FIELD.finditer(self.data, self.start, self.body):
            if found[1].lower() == name:
                return _FOLD.sub(b"", found[2]).strip()
        return None

    def find(self, numbers: Sequence[int]) -> Part | None:
        """The part with these numbers (RFC 3501, 6.4.5), None if there is none."""
        here: Part | None = self
        whole = True
        for number in numbers:
            if here is None:
                return None
            if not whole and here.message is not None:
                here, whole = here.message, True
            if here.multipart:
                here = here.parts[number - 1] if 0 < number <= len(here.parts) else None
            elif number != 1 or not whole:  # only a message has a part 1 where it has no parts
                here = None
            whole = False
        return here


def parse(data: bytes) -> Part:
    """The tree of a message."""
    return _Parser(data).part(0, len(data), 0, b"TEXT", b"PLAIN")


class _Parser:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._count = 0

    def part(self, start: int, end: int, depth: int, main: bytes, sub: bytes) -> Part:
        """The part between two places. `main` and `sub`: what it is if it does not say."""
        self._count += 1
        made = Part(self._data, start, self._header_end(start, end), end, main, sub)
        self._describe(made, main, sub)
        if depth < DEEPEST and self._count < MOST:
            self._divide(made, depth)
        return made

    def _header_end(self, start: int, end: int) -> int:
        for nothing in (b"\r\n", b"\n"):  # a header without fields
            if self._data.startswith(nothing, start, end):
                return start + len(nothing)
        found = _HEADER_END.search(self._data, start, end)
        return found.end() if found is not None else end

    def _describe(self, part: Part, main: bytes, sub: bytes) -> None:
        said = part.value(b"content-type")
        found = _TYPE.match(without_comments(said)) if said is not None else None
        if said is None or found is None:
            if (main, sub) != (b"TEXT", b"PLAIN"):
                part.parameters = ()
            return
        part.type, part.subtype = found[1].upper(), found[2].upper()
        part.parameters = parameters(said)

    def _divide(self, part: Part, depth: int) -> None:
        if part.type == b"MULTIPART":
            boundary = next((value for name, value in part.parameters if name == b"BOUNDARY"), b"")
            inner = (b"MESSAGE", b"RFC822") if part.subtype == b"DIGEST" else (b"TEXT", b"PLAIN")
            if boundary:
                for start, end in self._between(part, boundary):
                    if self._count >= MOST:
                        break
                    part.parts.append(self.part(start, end, depth + 1, *inner))
            if not part.parts:  # Cyrus shows an empty one
                part.parts.append(Part(self._data, part.end, part.end, part.end))
        elif (part.type, part.subtype) == (b"MESSAGE", b"RFC822"):
            part.parts.append(self.part(part.body, part.end, depth + 1, b"TEXT", b"PLAIN"))

    def _between(self, part: Part, boundary: bytes) -> Iterator[tuple[int, int]]:
        """Where the parts of a multipart begin and end. What is not closed goes to the end."""
        line = re.compile(rb"(?:\r?\n|(?<=\n))--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r?\n|\Z)")
        first: int | None = None
        at = part.body
        while (found := line.search(self._data, at, part.end)) is not None:
            if first is not None:
                yield first, max(first, found.start())
            first = found.end()
            if found[1]:
                return
            at = found.end()
        if first is not None:
            yield first, part.end


def without_comments(value: bytes) -> bytes:
    """A structured field without its comments, as far as they do not hide in strings."""
    return _COMMENT.sub(b" ", value) if b"(" in value and b'"' not in value else value


def parameters(value: bytes) -> Sequence[tuple[bytes, bytes]]:
    """The parameters of a structured field: (name in upper case, value without quotes)."""
    return [
        (found[1].upper(), re.sub(rb"\\(.)", rb"\1", found[2]) if found[2] is not None else found[3])
        for found in _PARAMETER.finditer(without_comments(value))
    ]


def first_word(value: bytes) -> bytes:
    """What stands before the parameters of a structured field."""
    found = _WORD.match(without_comments(value))
    return found[1] if found else b""
