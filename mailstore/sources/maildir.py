"""Maildir++: ``cur`` and ``new``, folders as ``.Work.2026`` (or nested directories), Dovecot's keywords.

Flags are the letters behind ``:2,``; a lower-case letter is a keyword of the folder's ``dovecot-keywords``.
The internal date is the file's time of modification, as Dovecot keeps it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from common.errors import ReplyError
from mailstore.flags import is_keyword
from mailstore.sources.content import Changed, Span, as_body, stored_pieces
from mailstore.sources.message import Report, SourceMessage, component, from_top, record_flags

_LETTERS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_PARTS = ("cur", "new", "tmp")


def is_maildir(path: Path) -> bool:
    """True for a directory that holds messages itself or in Maildir++ folders."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


class MaildirSource:
    """A Maildir with its folders."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self._report = report
        self._folders = list(self._find_folders())

    def size(self) -> int:
        return sum(
            entry.stat().st_size
            for _, directory in self._folders
            for part in ("cur", "new")
            for entry in _files(directory / part)
        )

    def folders(self) -> list[tuple[str, ...]]:
        return [folder for folder, _ in self._folders]

    def messages(self) -> Iterator[SourceMessage]:
        for folder, directory in self._folders:
            yield from self._folder(folder, directory)

    def subscriptions(self) -> list[tuple[str, ...]]:
        try:
            text = (self.path / "subscriptions").read_text("utf-8", "surrogateescape")
        except OSError:
            return []
        lines = text.splitlines()
        separator = "\t" if lines[:1] == ["V\t2"] else r"[./]"
        found = []
        for line in lines:
            if line in ("", "V\t2"):
                continue
            try:
                found.append(from_top(tuple(component(part) for part in re.split(separator, line))))
            except ReplyError as error:
                self._report(f"subscription to {line!r} left out: {error}")
        return found

    def _find_folders(self) -> Iterator[tuple[tuple[str, ...], Path]]:
        yield (), self.path
        for entry in sorted(self.path.iterdir()):
            if entry.is_dir() and entry.name.startswith(".") and (entry / "cur").is_dir():
                yield from self._named(entry, entry.name[1:].split("."))
        yield from self._nested(self.path, [])

    def _nested(self, directory: Path, above: list[str]) -> Iterator[tuple[tuple[str, ...], Path]]:
        for entry in sorted(directory.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                if entry.name in _PARTS:
                    continue
                if (entry / "cur").is_dir():
                    yield from self._named(entry, [*above, entry.name])
                yield from self._nested(entry, [*above, entry.name])

    def _named(self, directory: Path, parts: list[str]) -> Iterator[tuple[tuple[str, ...], Path]]:
        try:
            yield from_top(tuple(component(part) for part in parts)), directory
        except ReplyError as error:
            self._report(f"{directory}: folder left out: {error}")

    def _folder(self, folder: tuple[str, ...], directory: Path) -> Iterator[SourceMessage]:
        keywords = _keywords(directory)
        found = [(entry, part) for part in ("cur", "new") for entry in _files(directory / part)]
        for entry, part in sorted(found, key=lambda item: _delivery_order(item[0].name)):
            try:
                raw = as_body(Changed(Span(Path(entry.path)), stored_pieces))
                status = entry.stat()
            except OSError as error:
                self._report(f"{entry.path}: left out: {error.strerror}")
                continue
            if not raw:
                self._report(f"{entry.path}: left out: it is empty")
                continue
            flags = _flags(entry.name, keywords) if part == "cur" else ""
            yield SourceMessage(folder, raw, max(int(status.st_mtime), 1), flags, status.st_size)


def _files(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _delivery_order(name: str) -> tuple[int, str]:
    """Unique names begin with the second of delivery."""
    head = name.partition(".")[0]
    return (int(head) if head.isdigit() else 0, name)


def _keywords(directory: Path) -> dict[str, str]:
    """Keyword by letter, from ``dovecot-keywords`` (lines ``0 name``; 0 is the letter a)."""
    try:
        text = (directory / "dovecot-keywords").read_text("utf-8", "replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        number, _, name = line.partition(" ")
        if number.isdigit() and int(number) < 26 and is_keyword(name):
            found[chr(ord("a") + int(number))] = name
    return found


def _flags(name: str, keywords: dict[str, str]) -> str:
    letters = name.rpartition(":2,")[2] if ":2," in name else ""
    known = {**_LETTERS, **keywords}
    return record_flags([known[letter] for letter in letters if letter in known])
