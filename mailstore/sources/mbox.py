"""mbox files: messages one after another, each behind a line ``From sender date``.

Lines ``>From `` inside lose one ``>`` (mboxrd). Status, X-Status and X-Keywords fields become flags and
are taken out, as they belong to the file and not to the message. The internal date is the one of the
``From `` line. The file is read as a stream; one message is in memory at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mailstore.errors import NoInput
from mailstore.sources.content import stored_form
from mailstore.sources.message import (
    Counters,
    Report,
    SourceMessage,
    date_of,
    header_of,
    is_gone,
    parse_date,
    record_flags,
    status_flags,
)

_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_OWN_FIELDS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase)[ \t]*:[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*",
    re.MULTILINE | re.IGNORECASE,
)
_FROM_DATE = re.compile(rb"(?<=[ \t])(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*")
_BLANK = (b"\n", b"\r\n")


def is_mbox(path: Path) -> bool:
    """True for a file that begins like an mbox (an empty file is an empty mbox)."""
    with path.open("rb") as file:
        head = file.read(5)
    return head == b"From " or not head


class MboxSource:
    """One mbox file, as the folder `folder`."""

    def __init__(self, path: Path, report: Report, folder: tuple[str, ...] = ()) -> None:
        self.path = path
        self.folder = folder
        self._report = report

    def size(self) -> int:
        return self.path.stat().st_size

    def folders(self) -> list[tuple[str, ...]]:
        return [self.folder]

    def subscriptions(self) -> list[tuple[str, ...]]:
        return []

    def counters(self, folder: tuple[str, ...]) -> Counters | None:
        """An mbox has none that clients know."""
        return None

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        """What of it cannot be read ends the import."""
        return True

    def messages(self) -> Iterator[SourceMessage]:
        try:
            with self.path.open("rb") as file:
                yield from self._split(file)
        except OSError as error:
            raise NoInput(f"{self.path}: {error.strerror}") from error

    def _split(self, lines: Iterator[bytes]) -> Iterator[SourceMessage]:
        from_line = b""
        body: list[bytes] = []
        blank_before = True
        for line in lines:
            if blank_before and line.startswith(b"From "):
                yield from self._message(from_line, body)
                from_line, body = line, []
            else:
                body.append(line)
            blank_before = line in _BLANK
        yield from self._message(from_line, body)

    def _message(self, from_line: bytes, body: list[bytes]) -> Iterator[SourceMessage]:
        if not from_line:
            return
        # The blank line before the next message is not part of this one, unless it ends the header.
        if body and body[-1] in _BLANK and any(line in _BLANK for line in body[:-1]):
            body.pop()
        raw = _QUOTED_FROM.sub(rb"\1", b"".join(body))
        consumed = len(from_line) + len(raw)
        if not raw.strip():
            self._report(
                f"{self.path}: a message left out: it is empty ({from_line.strip().decode('latin-1')})"
            )
            return
        header = header_of(raw)
        if is_gone(header):
            return
        when = _from_date(from_line) or date_of(header) or int(self.path.stat().st_mtime)
        message = stored_form(_without_own_fields(raw))
        yield SourceMessage(self.folder, message, when, record_flags(status_flags(header)), consumed)


def _without_own_fields(raw: bytes) -> bytes:
    end = re.search(rb"^\r?\n", raw, re.MULTILINE)
    length = end.start() if end else len(raw)
    return _OWN_FIELDS.sub(b"", raw[:length]) + raw[length:]


def _from_date(from_line: bytes) -> int | None:
    """The date of ``From alice@x Mon Jan  1 10:00:00 2024`` (taken as UTC unless it says otherwise)."""
    found = _FROM_DATE.search(from_line)
    return parse_date(found[0].decode("latin-1")) if found else None
