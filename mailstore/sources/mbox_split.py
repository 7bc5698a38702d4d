"""Where the messages of an mbox file begin and end.

A message begins at a postmark (`mailstore.sources.postmark`): a sure one behind a blank line, or with a
header field behind it; a likely or bare one only with both. Where the very first line has another form
than all those, the file's own form counts, with both. A Content-Length is believed where it ends at a
postmark or at the end of the file; then nothing inside is looked at. What `mailstore export` wrote tells
exactly how long an irregular message is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cyrus_sync.mailstore.sources.postmark import LONGEST, Kind, Postmark, read_postmark
from cyrus_sync.mailstore.sources.window import Window

HEADER_LIMIT = 512 * 1024
"""No more of a message is looked at as its header, in octets."""

EXACT = b"X-Mailstore-Octets"
"""The last of the fields that an export puts before an irregular message: its length in the file."""

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|>From ")
_BLANK = (b"\n\n", b"\n\r\n")
_USUAL_HEADER = 8192
_EXACT = re.compile(
    rb"(?:(?:X-IMAPbase|X-UID|Status|X-Status|X-Keywords): [^\r\n]*\n)*" + EXACT + rb": ([0-9]{1,15})\n",
    re.IGNORECASE,
)
_CONTENT_LENGTH = re.compile(rb"^Content-Length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*\r?$", re.MULTILINE | re.I)

MMDF = b"\x01\x01\x01\x01"
"""The line before and behind a message of an MMDF file."""


class Place(NamedTuple):
    """A message in the file, in octets from its beginning.

    `header` is where its text begins, behind the blank line; `exact`: what stands between `header` and `end`
    is the message as it was stored, and the fields before are the file's. `counted`: the end is the one
    of its Content-Length.
    """

    postmark: Postmark
    begin: int
    start: int
    header: int
    end: int
    next: int
    exact: bool = False
    counted: bool = False


def split(window: Window, start: int) -> Iterator[Place]:
    """The messages from `start` on, where the first postmark stands."""
    own_form = read_postmark(window.line(start, LONGEST)).kind is Kind.LOOSE
    begin = start
    while begin < window.end:
        place = _message(window, begin, own_form)
        yield place
        begin = place.next


def split_mmdf(window: Window, start: int) -> Iterator[Place]:
    """The messages of an MMDF file, each between two lines of four ^A; the first is at `start`."""
    begin = start
    while begin < window.end:
        first = begin + len(window.line(begin, LONGEST))
        line = window.line(first, LONGEST) if window.take(first, 5) == b"From " else b""
        postmark = read_postmark(line) if line else Postmark(Kind.BARE)
        if postmark.kind is not Kind.LOOSE:
            first += len(line)
        found = window.find(b"\n" + MMDF, first - 1)
        end = window.end if found < 0 else found + 1
        after = window.next_line_with_text(min(end + len(MMDF), window.end))
        if window.take(after, len(MMDF)) != MMDF:
            after = window.end
        yield Place(postmark, begin, first, first + _header_length(window, first, end), end, after)
        begin = after


def _message(window: Window, begin: int, own_form: bool) -> Place:
    line = window.line(begin, LONGEST)
    postmark = read_postmark(line)
    start = begin + len(line)
    if not line.endswith(b"\n"):
        start = window.find(b"\n", begin) + 1 or window.end
    exact = _EXACT.match(window.take(start, LONGEST))
    if exact:
        header = start + exact.end()
        end = header + int(exact[1])
        after = _after(window, end)
        if after is not None and window.take(end, 1) == b"\n":
            return Place(postmark, begin, start, header, end, after, exact=True)
    header = start + _header_length(window, start, window.end)
    fields = window.take(start, header - start)
    counted = _CONTENT_LENGTH.search(fields)
    if counted and b"\nFrom " not in fields:
        end = header + int(counted[1])
        after = _after(window, end)
        if after is not None:
            return Place(postmark, begin, start, header, end, after, counted=True)
    after = _next_postmark(window, start if b"\nFrom " in fields else max(header - 1, start), own_form)
    header = min(header, after)
    # The blank line before the next message is not part of this one, unless it ends the header.
    return Place(postmark, begin, start, header, after - _blank_line(window, header, after), after)


def _header_length(window: Window, start: int, end: int) -> int:
    """How many octets from `start` on are header, the blank line that ends it included."""
    for count in (_USUAL_HEADER, HEADER_LIMIT):
        count = min(count, end - start)
        head = window.take(start, count)
        blank = _header_end(head)
        if blank >= 0:
            return blank
        if len(head) < count or count == end - start or b"\nFrom " in head:
            return len(head)
    return head.rfind(b"\n") + 1


def _header_end(head: bytes) -> int:
    """Where the first blank line ends, -1 if there is none."""
    for blank in (b"\n", b"\r\n"):
        if head.startswith(blank):
            return len(blank)
    end = -1
    for blank in _BLANK:
        found = head.find(blank, 0, end if end >= 0 else len(head))
        end = found + len(blank) if found >= 0 else end
    return end


def _blank_line(window: Window, header: int, end: int) -> int:
    """How long the blank line is that stands before `end`, 0 for none."""
    tail = window.take(max(end - 3, header), min(3, end - header))
    for blank in (b"\r\n", b"\n"):
        if tail.endswith(blank) and (len(tail) == len(blank) or tail[: -len(blank)].endswith(b"\n")):
            return len(blank)
    return 0


def _after(window: Window, end: int) -> int | None:
    """Where the next postmark is, if nothing but blank lines stands between `end` and it."""
    if end > window.end:
        return None
    tail = window.take(end, LONGEST + 8)
    text = tail.lstrip(b"\r\n")
    begin = end + len(tail) - len(text)
    if not text and len(tail) < LONGEST + 8:
        return window.end
    on_a_line = len(text) < len(tail) or window.take(end - 1, 1) == b"\n"
    if on_a_line and text.startswith(b"From ") and read_postmark(_line(text)).kind is not Kind.LOOSE:
        return begin
    return None


def _next_postmark(window: Window, start: int, own_form: bool) -> int:
    """Where the next message begins; the end if there is none."""
    at = start
    if window.take(at, 5) == b"From " and _begins_message(window, at, True, own_form):
        return at
    while True:
        found = window.find(b"\nFrom ", at)
        if found < 0:
            return window.end
        at = found + 1
        before = window.take(max(found - 2, start), min(2, found - start))
        blank = before.endswith(b"\n") or before in (b"", b"\r", b"\n\r")
        if _begins_message(window, at, blank, own_form):
            return at


def _begins_message(window: Window, at: int, blank_before: bool, own_form: bool) -> bool:
    line = window.line(at, LONGEST)
    kind = read_postmark(line).kind
    if kind is Kind.LOOSE and not own_form:
        return False
    if kind is Kind.SURE and blank_before:
        return True
    following = window.take(at + len(line), 80)
    field_follows = _FIELD.match(following) is not None
    if kind is Kind.SURE:
        return field_follows
    return blank_before and field_follows


def _line(data: bytes) -> bytes:
    return data[: data.find(b"\n") + 1] or data
