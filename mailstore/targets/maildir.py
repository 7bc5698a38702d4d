"""Write a Maildir++ that Dovecot, Courier and `mailstore import` read."""

from __future__ import annotations

import os
from pathlib import Path

from common.model import SYSTEM_FLAGS, Record

_LETTERS = {
    "\\Draft": "D",
    "\\Flagged": "F",
    "$Forwarded": "P",
    "\\Answered": "R",
    "\\Seen": "S",
    "\\Deleted": "T",
}
_KEYWORDS = 26


class MaildirTarget:
    """A Maildir at `path`."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._directory = path
        self._keywords: list[str] = []
        self._make(path)

    def begin(self, folder: tuple[str, ...]) -> None:
        name = "".join("." + part.replace("^", "&AC4-") for part in folder)
        self._directory = self._root / name if folder else self._root
        self._keywords = []
        self._make(self._directory)
        if folder:
            (self._directory / "maildirfolder").touch()

    def add(self, record: Record, raw: bytes) -> None:
        letters = self._flag_letters(record.flags)
        path = (
            self._directory
            / "cur"
            / f"{record.internaldate}.U{record.uid:010d}.export,S={len(raw)}:2,{letters}"
        )
        path.write_bytes(raw)
        os.utime(path, (record.internaldate, record.internaldate))

    def end(self) -> None:
        if self._keywords:
            lines = "".join(f"{number} {name}\n" for number, name in enumerate(self._keywords))
            (self._directory / "dovecot-keywords").write_text(lines, encoding="utf-8")

    def subscribe(self, folders: list[tuple[str, ...]]) -> None:
        if folders:
            lines = "".join(".".join(folder or ("INBOX",)).replace("^", "&AC4-") + "\n" for folder in folders)
            (self._root / "subscriptions").write_text(lines, encoding="utf-8")

    @staticmethod
    def _make(directory: Path) -> None:
        for part in ("cur", "new", "tmp"):
            (directory / part).mkdir(parents=True, exist_ok=True)

    def _flag_letters(self, flags: str) -> str:
        letters = set()
        for flag in flags.split():
            if flag in _LETTERS:
                letters.add(_LETTERS[flag])
            elif flag not in SYSTEM_FLAGS:
                if flag not in self._keywords and len(self._keywords) < _KEYWORDS:
                    self._keywords.append(flag)
                if flag in self._keywords:
                    letters.add(chr(ord("a") + self._keywords.index(flag)))
        return "".join(sorted(letters))
