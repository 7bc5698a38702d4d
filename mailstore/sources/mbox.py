"""mbox and MMDF files: messages one after another in one file, each behind a postmark.

Lines ``>From `` in a body lose one ``>`` (mboxrd, and mboxo as far as it can be undone), except in a
message with a Content-Length in whose body ``From `` stands bare (mboxcl2). Status, X-Status, X-Keywords and
the fields of UW imapd become flags and are taken out, as they belong to the file and not to the message.
UW's message with its folder's data is none. The internal date is the postmark's. The file is
read as a stream, in blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cyrus_sync.mailstore.errors import BadInput, NoInput
from cyrus_sync.mailstore.mboxrd import unquoted_pieces
from cyrus_sync.mailstore.sources.content import PIECE, Changed, Readable, Span, as_body, stored_pieces
from cyrus_sync.mailstore.sources.fields import (
    LeftOut,
    date_of,
    field,
    header_of,
    is_gone,
    status_flags,
)
from cyrus_sync.mailstore.sources.mbox_split import MMDF, Place, split, split_mmdf
from cyrus_sync.mailstore.sources.message import Counters, Heard, Report, SourceMessage
from cyrus_sync.mailstore.sources.window import Window

_OWN_FIELDS = re.compile(
    rb"^(?:(?:Status[ \t]*:[ \t]*[RONUD]*|X-Status[ \t]*:[ \t]*[ACDFNORTU]*)[ \t]*\r?\n"
    rb"|(?:X-Keywords|X-UID|X-IMAP|X-IMAPbase)[ \t]*:[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*)",
    re.MULTILINE | re.IGNORECASE,
)
_COUNTERS = re.compile(rb"([1-9][0-9]{0,9}) +([0-9]{1,10})(?: |\Z)")
_UID = re.compile(rb"[0-9]{1,10}")
_BARE_FROM = re.compile(rb"^From ", re.MULTILINE)
_TEXT = re.compile(rb"\S")
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_INTERNAL = b"DON'T DELETE THIS MESSAGE"


class Found(NamedTuple):
    """What a file is: "mbox", "mmdf", "blank" (nothing but line ends), "" for none of them, or with
    `why` in words what it is that cannot be read; where its first postmark stands."""

    form: str
    start: int = 0
    why: str = ""


def recognise(path: Readable) -> Found:
    """What kind of mailbox the file is, by its beginning. Raises OSError."""
    with path.open("rb") as file:
        window = Window(file, path.stat().st_size)
        start = len(_BOM) if window.take(0, 3) == _BOM else 0
        if window.take(0, 2) in _WIDE_BOMS:
            return Found("", 0, "text in UTF-16")
        start = window.next_line_with_text(start)
        head = window.take(start, 4096)
    if not head:
        return Found("blank", start)
    if head.startswith(MMDF):
        return Found("mmdf", start)
    if head.startswith(b"BABYL OPTIONS:"):
        return Found("", start, "a Babyl file (Rmail)")
    if head.startswith(b"From "):
        if b"\r" in head and b"\n" not in head:
            return Found("", start, "an mbox whose lines end in CR alone: tr '\\r' '\\n' makes one")
        return Found("mbox", start)
    return Found("", start)


class MboxSource:
    """One file, as the folder `folder`."""

    def __init__(self, path: Readable, report: Report, folder: tuple[str, ...] = ()) -> None:
        self.path = path
        self.folder = folder
        self._report = self._heard = Heard(report)
        self._left_out = LeftOut(self._heard)

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def folders(self) -> list[tuple[str, ...]]:
        return [self.folder]

    def subscriptions(self) -> list[tuple[str, ...]]:
        return []

    def counters(self, folder: tuple[str, ...]) -> Counters | None:
        """What UW imapd, Dovecot or `mailstore export` wrote into the first message, if they did."""
        try:
            found = recognise(self.path)
            if folder != self.folder or found.form != "mbox":
                return None
            with self.path.open("rb") as file:
                window = Window(file, self.path.stat().st_size)
                first = next(split(window, found.start))
                header = header_of(window.take(first.start, first.header - first.start))
        except OSError as error:
            raise NoInput(f"{self.path}: {error.strerror}") from error
        value = field(header, b"X-IMAP") or field(header, b"X-IMAPbase")
        numbers = _COUNTERS.match(value)
        return Counters(int(numbers[1]), int(numbers[2]) + 1, "") if numbers else None

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        """Nothing was left out."""
        return not self._heard.anything

    def messages(self) -> Iterator[SourceMessage]:
        """Raises `NoInput`, `BadInput`."""
        try:
            found = recognise(self.path)
            if found.form not in ("mbox", "mmdf", "blank"):
                raise BadInput(f"{self.path}: {found.why or 'no mbox'}")
            with self.path.open("rb") as file:
                window = Window(file, self.path.stat().st_size)
                places = (split_mmdf if found.form == "mmdf" else split)(window, found.start)
                counters = self.counters(self.folder)
                consumed = last_uid = 0
                for number, place in enumerate(places, 1):
                    for message in self._message(number, place, window, found.form == "mbox"):
                        known = counters is not None and last_uid < message.uid < counters.next_uid
                        last_uid = message.uid if known else last_uid
                        yield message._replace(
                            consumed=place.next - consumed, uid=message.uid if known else 0
                        )
                        consumed = place.next
        except OSError as error:
            raise NoInput(f"{self.path}: {error.strerror}") from error
        self._left_out.say(str(self.path))

    def _message(self, number: int, place: Place, window: Window, quoted: bool) -> Iterator[SourceMessage]:
        header = window.take(place.start, place.header - place.start)
        body: Iterable[bytes] = Span(self.path, place.header, place.end)
        if place.end - place.header <= PIECE:
            body = [window.take(place.header, place.end - place.header)]
        fields = header_of(header)
        if field(fields, b"X-IMAP") and field(fields, b"Subject").startswith(_INTERNAL):
            return
        if place.exact:
            content: Iterable[bytes] = Changed(body, unquoted_pieces)
        else:
            unquote = quoted and not (place.counted and any(_BARE_FROM.search(piece) for piece in body))
            body = Changed(body, unquoted_pieces) if unquote else body
            content = Changed(_Joined(_OWN_FIELDS.sub(b"", header), body), stored_pieces)
            if not any(_TEXT.search(piece) for piece in content):
                self._report(f"{self.path}: message {number} left out: it is empty")
                return
            if is_gone(fields):
                self._left_out.gone(str(self.path))
                return
        flags = self._left_out.flags(status_flags(fields))
        when = place.postmark.when or date_of(fields) or int(self.path.stat().st_mtime)
        number_there = _UID.fullmatch(field(fields, b"X-UID"))
        uid = int(number_there[0]) if number_there else 0
        try:
            raw = as_body(content)
        except OSError as error:
            self._report(f"{self.path}: message {number} left out: {error.strerror}")
            return
        yield SourceMessage(self.folder, raw, when, flags, 0, uid)


class _Joined:
    """A header, and a body in pieces behind it."""

    def __init__(self, header: bytes, body: Iterable[bytes]) -> None:
        self._header = header
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._header
        yield from self._body
