"""A tree of directories with mail in them: .eml and .emlx files, MH folders, Maildirs, mbox files.

Directories become folders. Thunderbird's ``Name.sbd`` holds the folders below ``Name``; in Apple Mail's
``Name.mbox`` the directories that only spread files are none. What `mailstore export` wrote is put back by
its list. The internal date of a message in a file of its own is that of its first Received field,
else its Date, else the file's time of modification.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.mailstore.errors import BadInput, NoInput
from cyrus_sync.mailstore.mbox_names import INDEX, read_index
from cyrus_sync.mailstore.sources.content import Changed, Span, as_body, stored_pieces
from cyrus_sync.mailstore.sources.emlx import read_emlx
from cyrus_sync.mailstore.sources.fields import LeftOut, date_of, header_of, is_gone, status_flags
from cyrus_sync.mailstore.sources.inside import Inside, Placed
from cyrus_sync.mailstore.sources.maildir import MaildirSource, is_maildir
from cyrus_sync.mailstore.sources.mbox import MboxSource, recognise
from cyrus_sync.mailstore.sources.mbox_split import HEADER_LIMIT
from cyrus_sync.mailstore.sources.message import (
    Counters,
    Heard,
    Report,
    Source,
    SourceMessage,
    component,
    from_top,
)
from cyrus_sync.mailstore.sources.mh import Sequences, is_number, is_removed

Folder = tuple[str, ...]

_NO_MAIL = (".msf", ".wdseml", ".mozmsgs", ".mozeml")
"""What Thunderbird keeps beside mail: indexes and copies for a search."""
_SPREADING = re.compile(r"Messages|Data|[0-9]|[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}", re.IGNORECASE)
"""Directories inside Apple Mail's ``Name.mbox`` that are no folders."""
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_TEXT = re.compile(rb"\S")
_NAMED_AT_MOST = 5


class _File(NamedTuple):
    """A message in a file of its own; `sequences` of an MH folder."""

    folder: Folder
    path: Placed
    name: str
    size: int
    sequences: Sequences | None = None


class TreeSource:
    """Everything below `path` (or one file with a message in it)."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self._report = self._heard = Heard(report)
        self._root = path.resolve()
        self._inside = Inside(path if path.is_dir() else self._root.parent)
        self._files: list[_File] = []
        self._boxes: list[tuple[Folder, Source]] = []
        self._listed: set[Path] = set()
        self._subscribed: list[Folder] = []
        self._passed: list[str] = []
        self._left_out = LeftOut(self._report)
        if path.is_dir():
            self._read_index()
            self._walk(path, (), apple=False)
            self._name_passed()
        else:
            self._files.append(
                _File((), Placed(self._inside, (self._root.name,)), path.name, path.stat().st_size)
            )
        if not self._files and not self._boxes:
            raise BadInput(f"{path}: no .eml file, Maildir, MH folder or mbox is in it")

    def size(self) -> int:
        return sum(file.size for file in self._files) + sum(box.size() for _, box in self._boxes)

    def folders(self) -> list[Folder]:
        inside = [folder + below for folder, box in self._boxes for below in box.folders()]
        return list(dict.fromkeys([*(file.folder for file in self._files), *inside]))

    def subscriptions(self) -> list[Folder]:
        inside = [folder + below for folder, box in self._boxes for below in box.subscriptions()]
        return self._subscribed + inside

    def counters(self, folder: Folder) -> Counters | None:
        for above, box in self._boxes:
            if folder[: len(above)] == above:
                found = box.counters(folder[len(above) :])
                if found is not None:
                    return found
        return None

    def is_whole(self, folder: tuple[str, ...] | None) -> bool:
        """Nothing was left out at all: a directory that could not be read has hidden who knows what."""
        return not self._heard.anything

    def messages(self) -> Iterator[SourceMessage]:
        for file in self._files:
            try:
                yield from self._message(file)
            except BadInput as error:
                self._report(f"{file.path}: left out: {error.message}")
            except OSError as error:
                self._report(f"{file.path}: left out: {error.strerror}")
        for folder, box in self._boxes:
            try:
                for message in box.messages():
                    yield message._replace(folder=folder + message.folder)
            except (BadInput, NoInput) as error:
                self._report(f"left out: {error.message}")
        self._left_out.say(str(self.path))

    # -- what is there

    def _read_index(self) -> None:
        for entry in read_index(self.path, self._report):
            path = self.path / entry.file
            if entry.subscribed:
                self._subscribed.append(entry.folder)
            if self._is_file(path):
                self._boxes.append((entry.folder, MboxSource(self._placed(path), self._report)))
                self._listed.add(path)

    def _walk(self, directory: Path, folder: Folder, *, apple: bool) -> None:
        try:
            entries = sorted(directory.iterdir(), key=_order)
            entries.sort(key=Path.is_dir)
        except OSError as error:
            self._report(f"{directory}: left out: {error.strerror}")
            return
        sequences = Sequences(directory)
        removed = 0
        for entry in entries:
            name = entry.name
            if entry in self._listed or entry.suffix.lower() in _NO_MAIL:
                continue
            if name == INDEX and self._listed and directory == self.path:
                continue
            if is_removed(name):
                removed += 1
            elif name.startswith("."):
                if entry.is_dir() and not entry.is_symlink():
                    self._passed.append(f"{self._below_root(entry)}/")
            elif entry.is_dir() and not entry.is_symlink():
                self._directory(entry, folder, apple=apple)
            elif self._is_file(entry):
                self._file(entry, folder, sequences)
        if removed:
            self._report(f"{directory}: {removed} messages left out: MH has removed them (, or # in front)")

    def _directory(self, entry: Path, folder: Folder, *, apple: bool) -> None:
        suffix = entry.suffix.lower()
        if apple and _SPREADING.fullmatch(entry.name):
            self._walk(entry, folder, apple=True)
            return
        name = entry.stem if suffix in (".sbd", ".mbox") else entry.name
        below = self._below(folder, name)
        if below is None:
            return
        if is_maildir(entry):
            self._boxes.append((below, MaildirSource(entry, self._report)))
        else:
            self._walk(entry, below, apple=suffix == ".mbox")

    def _file(self, entry: Path, folder: Folder, sequences: Sequences) -> None:
        suffix = entry.suffix.lower()
        try:
            size = entry.stat().st_size
            if suffix == ".emlx":
                self._files.append(_File(folder, self._placed(entry), entry.name, size))
                return
            found = recognise(self._placed(entry))
            if suffix == ".eml":
                if found.form in ("mbox", "mmdf"):
                    self._boxes.append((folder, MboxSource(self._placed(entry), self._report)))
                else:
                    self._files.append(_File(folder, self._placed(entry), entry.name, size))
            elif found.form in ("mbox", "mmdf") or (found.form == "blank" and _is_empty_mbox(entry)):
                self._box(entry, folder)
            elif found.why:
                self._report(f"{entry}: left out: it is {found.why}")
            elif is_number(entry.name) and _begins_like_mail(self._placed(entry), found.start):
                self._files.append(_File(folder, self._placed(entry), entry.name, size, sequences))
            else:
                self._passed.append(self._below_root(entry))
        except OSError as error:
            self._report(f"{entry}: left out: {error.strerror}")

    def _box(self, entry: Path, folder: Folder) -> None:
        """An mbox file as a folder of its own: ``Work.mbox`` is Work, unless there is another one."""
        taken = {below for below, box in self._boxes if isinstance(box, MboxSource)}
        below = self._below(folder, entry.stem if entry.suffix.lower() == ".mbox" else entry.name)
        if below in taken:
            below = self._below(folder, entry.name)
        if below in taken:
            self._report(f"{entry}: its messages go into the folder of another file, {'/'.join(below or ())}")
        if below is not None:
            self._boxes.append((below, MboxSource(self._placed(entry), self._report)))

    def _is_file(self, path: Path) -> bool:
        """True for a regular file, or a symbolic link to one inside the source; others are reported."""
        try:
            if path.is_symlink():
                target = path.resolve(strict=True)
                if not target.is_relative_to(self._root):
                    self._report(f"{path}: left out: a symbolic link that leads out of the source")
                    return False
                if target.is_dir():
                    self._report(f"{path}: left out: a symbolic link to a directory")
                    return False
            found = path.is_file()
        except (OSError, RuntimeError):
            self._report(f"{path}: left out: a symbolic link that leads nowhere")
            return False
        if not found:
            self._report(f"{path}: left out: {'no file' if path.exists() else 'it is not there'}")
        return found

    def _below(self, folder: Folder, name: str) -> Folder | None:
        try:
            return from_top((*folder, component(name))) if not folder else (*folder, component(name))
        except ReplyError as error:
            self._report(f"{name}: folder left out: {error}")
            return None

    def _placed(self, path: Path) -> Placed:
        return Placed(self._inside, path.relative_to(self.path).parts)

    def _below_root(self, path: Path) -> str:
        return str(path.relative_to(self.path))

    def _name_passed(self) -> None:
        if self._passed:
            names = ", ".join(self._passed[:_NAMED_AT_MOST])
            more = ", …" if len(self._passed) > _NAMED_AT_MOST else ""
            self._report(
                f"{self.path}: {len(self._passed)} entries passed over that hold no mail: {names}{more}"
            )

    # -- messages in files of their own

    def _message(self, file: _File) -> Iterator[SourceMessage]:
        path = file.path
        flags: list[str] = []
        when: int | None = None
        pieces: Iterable[bytes] = Span(path)
        if file.name.lower().endswith(".emlx"):
            pieces, flags, when = read_emlx(path)
            if file.name.lower().endswith(".partial.emlx"):
                self._report(f"{path}: imported without the attachments that Apple Mail keeps elsewhere")
        header = header_of(_head(pieces))
        if not header.strip() and not any(_TEXT.search(piece) for piece in pieces):
            raise BadInput("it is empty")
        if is_gone(header):
            self._left_out.gone(str(path).removesuffix(f"/{file.name}"))
            return
        if file.sequences is not None:
            flags = file.sequences.flags(int(file.name))
        elif not flags:
            flags = status_flags(header)
        when = date_of(header) or when or int(path.stat().st_mtime)
        body = as_body(Changed(pieces, stored_pieces))
        yield SourceMessage(file.folder, body, when, self._left_out.flags(flags), file.size)


def _order(path: Path) -> tuple[bool, int, str]:
    """By number where names are numbers, then by name."""
    number = path.stem if path.suffix.lower() in (".eml", ".emlx", "") else ""
    if is_number(number):
        return (False, int(number), path.name)
    return (True, 0, path.name)


def _is_empty_mbox(path: Path) -> bool:
    """True where a file without any message is a folder all the same."""
    others = (path.with_name(path.name + suffix) for suffix in (".msf", ".sbd"))
    return path.suffix.lower() == ".mbox" or any(os.path.lexists(other) for other in others)


def _begins_like_mail(path: Placed, start: int) -> bool:
    with path.open("rb") as file:
        file.seek(start)
        return _FIELD.match(file.read(1024)) is not None


def _head(pieces: Iterable[bytes]) -> bytes:
    """As much of a message as its header can be."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEADER_LIMIT:
            break
    return head
