"""Write mbox files (mboxrd): ``INBOX.mbox``, ``Work.mbox``, ``Work.sbd/2026.mbox`` …"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import BinaryIO

from common.model import MailboxState, Record
from common.utf7 import decode

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_X_STATUS = {"\\Answered": "A", "\\Flagged": "F", "\\Deleted": "D", "\\Draft": "T"}


class MboxTarget:
    """mbox files below `path`."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._file: BinaryIO | None = None

    def begin(self, folder: tuple[str, ...], mailbox: MailboxState) -> None:
        names = [decode(part).replace("^", ".").replace("/", "_") for part in folder or ("INBOX",)]
        directory = self._root.joinpath(*(f"{name}.sbd" for name in names[:-1]))
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{names[-1]}.mbox").open("wb")

    def add(self, record: Record, raw: bytes) -> None:
        assert self._file is not None
        body = raw.replace(b"\r\n", b"\n")
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(record.internaldate))
        self._file.write(f"From MAILER-DAEMON {when}\n".encode() + _status(record.flags))
        self._file.write(_FROM.sub(rb">\1", body) + (b"\n" if body.endswith(b"\n") else b"\n\n"))

    def end(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    def subscribe(self, folders: list[tuple[str, ...]]) -> None:
        """An mbox has no place for it."""


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
