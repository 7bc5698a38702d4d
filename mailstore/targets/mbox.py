"""Write mbox files (mboxrd): ``INBOX.mbox``, ``Work.mbox``, ``Work.sbd/2026.mbox`` … and their list.

Line ends are LF, lines like postmarks have one ``>`` more. Flags and UIDs are in fields in front of each
message. A message that would not come back octet for octet is irregular: it has other line ends than CRLF,
does not end with one, has no end of its header, or fields whose names the file uses. It is written with
the line ends that it has, behind a field ``X-Mailstore-Octets`` with its length in the file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from cyrus_sync.common.model import MailboxState, Record, held_date
from cyrus_sync.mailstore.mbox_names import FileNames, ListedMailbox, write_index
from cyrus_sync.mailstore.mboxrd import quoted_pieces
from cyrus_sync.mailstore.sources.mbox_split import EXACT
from cyrus_sync.mailstore.targets.lines import LineEnds, line_ends

_X_STATUS = {"\\Answered": "A", "\\Flagged": "F", "\\Deleted": "D", "\\Draft": "T"}
_HEADER_END = re.compile(rb"^\r\n", re.MULTILINE)
_TEXT = re.compile(rb"\S")
_LONGEST_HEADER = 256 * 1024
_OWN = re.compile(
    rb"^(?:>*From |(?:Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length|X-Mozilla-Status|"
    rb"X-Mozilla-Keys|" + EXACT + rb")[ \t]*:)",
    re.MULTILINE | re.IGNORECASE,
)


class MboxTarget:
    """mbox files below `path`."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._names = FileNames()
        self._files: dict[tuple[str, ...], str] = {}
        self._file: BinaryIO | None = None
        self._first = ""

    def begin(self, folder: tuple[str, ...], mailbox: MailboxState) -> None:
        name = self._files[folder] = self._names.file_of(folder)
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._first = f"X-IMAPbase: {mailbox.uidvalidity} {mailbox.last_uid}\n"

    def add(self, record: Record, content: Iterable[bytes]) -> None:
        assert self._file is not None
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(held_date(record.internaldate)))
        self._file.write(f"From MAILER-DAEMON {when}\n".encode())
        self._file.write(f"{self._first}X-UID: {record.uid}\n".encode() + _status(record.flags))
        self._first = ""
        counted = line_ends(content)
        if _is_regular(content, counted):
            self._file.writelines(quoted_pieces(piece.replace(b"\r", b"") for piece in content))
        else:
            octets = sum(map(len, quoted_pieces(content)))
            self._file.write(EXACT + b": %d\n" % octets)
            self._file.writelines(quoted_pieces(content))
        self._file.write(b"\n" if counted.last == b"\n" else b"\n\n")

    def end(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    def subscribe(self, folders: list[tuple[str, ...]]) -> None:
        wanted = set(folders)
        write_index(
            self._root,
            [ListedMailbox(file, folder, folder in wanted) for folder, file in self._files.items()],
        )


def _is_regular(content: Iterable[bytes], counted: LineEnds) -> bool:
    """True for a message that comes back from an mbox as it was, by the rules that all mboxes have."""
    if not counted.lf == counted.cr == counted.crlf or counted.last != b"\n":
        return False
    head = b""
    for piece in content:
        head += piece
        if len(head) >= _LONGEST_HEADER:
            break
    if head[0] in b" \t":  # it would go on the field before
        return False
    header = _HEADER_END.search(head, 0, _LONGEST_HEADER)
    if header is None or _OWN.search(head, 0, header.start()):
        return False
    return any(_TEXT.search(piece) for piece in content)


def _status(flags: str) -> bytes:
    """Status fields; a system flag has a letter, a keyword its name."""
    present = flags.split()
    letters = "".join(letter for flag, letter in _X_STATUS.items() if flag in present)
    keywords = " ".join(flag for flag in present if not flag.startswith("\\"))
    fields = "Status: RO\n" if "\\Seen" in present else "Status: O\n"
    if letters:
        fields += f"X-Status: {letters}\n"
    if keywords:
        fields += f"X-Keywords: {keywords}\n"
    return fields.encode()
