"""Which file of an mbox export holds which mailbox: names for files, and the list that tells it.

A mailbox's name can be longer than a file's, and mean to a file system what it does not mean in mail.
So files get names that people recognise, each once whatever becomes of case and accents, and the list
``mailboxes.tsv`` says what they stand for: a line ``FILE <TAB> MAILBOX`` each, with ``<TAB> subscribed``
where the owner is. MAILBOX is relative to the INBOX, with ``.`` between levels as inside the store.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import check_mailbox_name
from cyrus_sync.common.utf7 import decode, encode

INDEX = "mailboxes.tsv"
SUFFIX = ".mbox"
BELOW = ".sbd"
"""What Thunderbird calls the directory of the folders below one."""

_FIRST = "# mailstore export: FILE\tMAILBOX\n"
_TOP = "INBOX"
_SUBSCRIBED = "subscribed"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f/\\:*?\"<>|\ud800-\udfff\u2028\u2029]|^[. ]|[. ]$")
_LONGEST = 120
"""Octets of a file's name without suffix: with four times that a path of many levels still fits."""


class ListedMailbox(NamedTuple):
    """A line of the list; `file` is relative to the export, `folder` to the INBOX."""

    file: str
    folder: tuple[str, ...]
    subscribed: bool = False


class FileNames:
    """Names for the mailboxes of one export."""

    def __init__(self) -> None:
        self._taken: dict[str, set[str]] = {SUFFIX: {_folded(_TOP)}}
        self._levels: dict[tuple[str, ...], str] = {(): ""}

    def file_of(self, folder: tuple[str, ...]) -> str:
        """The file for a mailbox, relative to the export; asked for once each."""
        if not folder:
            return _TOP + SUFFIX
        return self._free(self._directory(folder[:-1]), _readable(folder[-1]), SUFFIX)

    def _directory(self, above: tuple[str, ...]) -> str:
        found = self._levels.get(above)
        if found is None:
            found = self._free(self._directory(above[:-1]), _readable(above[-1]), BELOW) + "/"
            self._levels[above] = found
        return found

    def _free(self, directory: str, name: str, suffix: str) -> str:
        taken = self._taken.setdefault(directory + suffix, set())
        candidate, number = name, 1
        while _folded(candidate) in taken:
            number += 1
            candidate = f"{name}~{number}"
        taken.add(_folded(candidate))
        return f"{directory}{candidate}{suffix}"


def _readable(component: str) -> str:
    text = decode(component)
    if encode(text) != component:
        text = component
    text = _UNFIT.sub("_", text.replace("^", "."))
    while len(text.encode()) > _LONGEST:
        text = text[:-1]
    return text or "_"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def write_index(directory: Path, entries: Iterable[ListedMailbox]) -> None:
    """Write the list."""
    lines = [_FIRST]
    for entry in entries:
        words = [entry.file, ".".join(entry.folder), *([_SUBSCRIBED] if entry.subscribed else [])]
        lines.append("\t".join(words) + "\n")
    (directory / INDEX).write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def read_index(directory: Path, report: Callable[[str], None]) -> list[ListedMailbox]:
    """The list of an export; empty where there is none. `report` hears of lines that cannot be used."""
    path = directory / INDEX
    if path.is_symlink() or not path.is_file():
        return []
    entries = []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        if file.readline() != _FIRST:
            return []
        for number, line in enumerate(file, 2):
            entry = _entry(line)
            if entry is None:
                report(f"{path}: line {number} left out: it names no file and mailbox")
            else:
                entries.append(entry)
    return entries


def _entry(line: str) -> ListedMailbox | None:
    words = line.rstrip("\n").split("\t")
    if len(words) not in (2, 3) or words[0].startswith("/") or ".." in words[0].split("/"):
        return None
    folder = tuple(words[1].split(".")) if words[1] else ()
    try:
        check_mailbox_name(".".join(("x", *folder)))
    except ReplyError:
        return None
    return ListedMailbox(words[0], folder, words[2:] == [_SUBSCRIBED])
